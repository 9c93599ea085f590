-- Records that nobody wants the work any more. in: ids, tokens, errors (the reasons). out: ids recorded.
-- Plan: primary key. Waits for a locked row half a second at most.
UPDATE {table} AS t
SET status = {cancelled},
    completed_at = clock_timestamp(),
    updated_at = clock_timestamp(),
    lease_expires_at = NULL,
    locked_by = NULL,
    error_message = (%(errors)s::text[])[{nth}]
WHERE {held} AND t.lease_expires_at IS NOT NULL
  AND (SELECT set_config('lock_timeout', '500ms', true)) IS NOT NULL
RETURNING t.id
