-- Extends leases that are still held. in: ids, tokens (pairs), lease seconds. out: ids renewed; the others are lost.
-- Plan: primary key.
UPDATE {table} AS t
SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
FROM unnest(%(ids)s::{id_type}[], %(tokens)s::uuid[]) AS held (id, token)
WHERE t.id = held.id AND t.lease_token = held.token AND t.lease_expires_at IS NOT NULL
RETURNING t.id
