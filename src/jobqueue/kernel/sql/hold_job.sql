-- Locks a job that is still held, so that what its transaction writes is fenced. in: id, token. Plan: primary key. Waits for a locked row half a second at most.
SELECT FROM {table} AS t
WHERE t.id = %(id)s::{id_type} AND t.lease_token = %(token)s::uuid AND t.lease_expires_at IS NOT NULL
  AND (SELECT set_config('lock_timeout', '500ms', true)) IS NOT NULL
FOR NO KEY UPDATE
