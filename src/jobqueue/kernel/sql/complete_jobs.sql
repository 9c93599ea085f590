-- Records success. in: ids, tokens (pairs). out: ids recorded; the others' leases are lost.
-- The token stays on the row: it tells a holder whose answer was lost on the way that its outcome was recorded.
-- Plan: primary key. Waits for a locked row half a second at most. Fenced by the token, never by the state.
UPDATE {table} AS t
SET status = {completed},
    completed_at = clock_timestamp(),
    updated_at = clock_timestamp(),
    lease_expires_at = NULL,
    locked_by = NULL,
    error_message = NULL,
    crash_count = 0
WHERE {held} AND t.lease_expires_at IS NOT NULL
  AND (SELECT set_config('lock_timeout', '500ms', true)) IS NOT NULL
RETURNING t.id
