-- Records a failure that no further attempt can mend: none is left then. in: ids, tokens, errors. out: ids recorded.
-- Plan: primary key. Waits for a locked row half a second at most.
UPDATE {table} AS t
SET status = {failed},
    retry_count = jobqueue.fit(t.retry_count, greatest(jobqueue.one_more(t.retry_count), t.max_retries)),
    crash_count = 0,
    completed_at = clock_timestamp(),
    updated_at = clock_timestamp(),
    lease_expires_at = NULL,
    locked_by = NULL,
    error_message = (%(errors)s::text[])[{nth}]
WHERE {held} AND t.lease_expires_at IS NOT NULL
  AND (SELECT set_config('lock_timeout', '500ms', true)) IS NOT NULL
RETURNING t.id
