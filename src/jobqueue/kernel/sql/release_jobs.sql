-- Gives jobs back as they were, to run at once; no attempt is charged. in: ids, tokens. out: ids recorded.
-- Plan: primary key. Waits for a locked row half a second at most.
UPDATE {table} AS t
SET status = {pending},
    updated_at = clock_timestamp(),
    lease_expires_at = NULL,
    locked_by = NULL
WHERE {held} AND t.lease_expires_at IS NOT NULL
  AND (SELECT set_config('lock_timeout', '500ms', true)) IS NOT NULL
RETURNING t.id
