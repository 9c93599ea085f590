-- Gives jobs back as they were, to run at once; no attempt is charged. in: ids, tokens. out: ids recorded.
-- Plan: primary key. Waits for a locked row half a second at most.
UPDATE {table} AS t
SET status = {pending},
    updated_at = clock_timestamp(),
    lease_expires_at = NULL,
    locked_by = NULL
FROM unnest(%(ids)s::{id_type}[], %(tokens)s::uuid[]) AS held (id, token)
WHERE t.id = held.id AND t.lease_token = held.token AND t.lease_expires_at IS NOT NULL
  AND (SELECT set_config('lock_timeout', '500ms', true)) IS NOT NULL
RETURNING t.id
