-- Gives back a whole claim whose answer never arrived. in: token. out: ids. Plan: the lease index, which is small.
UPDATE {table} AS t
SET status = {pending}, updated_at = clock_timestamp(), lease_expires_at = NULL, locked_by = NULL
WHERE t.status = {processing} AND t.lease_expires_at IS NOT NULL AND t.lease_token = %(token)s::uuid
RETURNING t.id
