-- Gives back a whole claim whose answer never arrived. in: token. out: ids. Plan: the lease index, which is small.
-- Waits for a locked row half a second at most.
UPDATE {table} AS t
SET status = {pending}, updated_at = clock_timestamp(), lease_expires_at = NULL, locked_by = NULL
WHERE t.status = {processing} AND t.lease_expires_at IS NOT NULL AND t.lease_token = %(token)s::uuid
  AND (SELECT set_config('lock_timeout', '500ms', true)) IS NOT NULL
RETURNING t.id
