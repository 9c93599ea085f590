-- Makes jobs pending again, as if they had never been tried. in: ids, and what the filters ask for.
-- out: id, whether it is pending: a job with a pending twin ends cancelled instead. Leaves locked rows out.
-- Plan: the index on id. Looks at the states and filters again under the lock.
UPDATE {table} AS job
SET status = {pending},
    retry_count = 0,
    crash_count = 0,
    run_after = clock_timestamp(),
    updated_at = clock_timestamp()
WHERE job.id = ANY (ARRAY(
    SELECT t.id FROM {table} AS t
    WHERE {source} AND {matches}
    FOR NO KEY UPDATE SKIP LOCKED))
RETURNING job.id, job.status = {pending}
