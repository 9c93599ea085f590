-- Records a failed attempt: pending again after a delay, or failed when no attempt is left.
-- in: ids, tokens, delays (seconds), errors. out: id, whether it has failed for good.
-- Plan: primary key. Waits for a locked row half a second at most.
UPDATE {table} AS t
SET status = CASE WHEN jobqueue.is_last(t.retry_count, t.max_retries) THEN {failed} ELSE {pending} END,
    retry_count = jobqueue.fit(t.retry_count, jobqueue.one_more(t.retry_count)),
    crash_count = 0,
    run_after = CASE WHEN jobqueue.is_last(t.retry_count, t.max_retries) THEN t.run_after
                     ELSE clock_timestamp() + make_interval(secs => (%(delays)s::float8[])[{nth}]) END,
    completed_at = CASE WHEN jobqueue.is_last(t.retry_count, t.max_retries) THEN clock_timestamp() END,
    updated_at = clock_timestamp(),
    lease_expires_at = NULL,
    locked_by = NULL,
    error_message = (%(errors)s::text[])[{nth}]
WHERE {held} AND t.lease_expires_at IS NOT NULL
  AND (SELECT set_config('lock_timeout', '500ms', true)) IS NOT NULL
RETURNING t.id, t.status = {failed} AS failed
