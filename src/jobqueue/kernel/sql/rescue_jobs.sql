-- Takes jobs away from workers that stopped renewing. A lost worker counts as a failed attempt.
-- in: lease seconds, back (seconds: leases that ran out longer ago are not looked for; NULL: all),
-- ids (NULL: any), gone (names of workers that are dead for certain),
-- patience (how long to wait for a lock that a host's trigger takes, as lock_timeout).
-- out: id, who held it, whether it has failed for good. Locks the rows it changes. Each attempt charged leaves a row of
-- jobqueue.attempts.
-- No worker of ours ever claimed a job without a token (see lease_orphans): its attempt is not charged, and the job runs again
-- whatever its counts were.
-- After a restart of the database holders get one lease to come back, unless they are known to be dead: it was not they who
-- went away.
-- Plan: the lease index, in order of expiry.
WITH lost AS MATERIALIZED (
    SELECT c.id, c.locked_by, c.retry_count, (c.lease_token IS NOT NULL)::int AS charge,
           c.lease_token IS NOT NULL AND jobqueue.is_last(c.retry_count, c.max_retries) AS exhausted
    FROM {table} AS c
    WHERE c.status = {processing} AND c.lease_expires_at < statement_timestamp()
      AND c.lease_expires_at >= coalesce(statement_timestamp() - make_interval(secs => %(back)s::float8), '-infinity')
      AND (statement_timestamp() >= pg_postmaster_start_time() + make_interval(secs => %(lease)s)
           OR c.locked_by = ANY (%(gone)s::text[]))
      AND (%(ids)s::{id_type}[] IS NULL OR c.id = ANY (%(ids)s::{id_type}[]))
    ORDER BY c.lease_expires_at
    LIMIT 500
    FOR NO KEY UPDATE SKIP LOCKED),
rescued AS (
UPDATE {table} AS t
SET status = CASE WHEN lost.exhausted THEN {failed} ELSE {pending} END,
    retry_count = CASE lost.charge WHEN 0 THEN t.retry_count ELSE jobqueue.fit(t.retry_count, jobqueue.one_more(t.retry_count)) END,
    crash_count = CASE lost.charge WHEN 0 THEN t.crash_count ELSE jobqueue.fit(t.crash_count, jobqueue.one_more(t.crash_count)) END,
    run_after = CASE WHEN lost.exhausted THEN t.run_after ELSE clock_timestamp() END,
    completed_at = CASE WHEN lost.exhausted THEN clock_timestamp() END,
    updated_at = clock_timestamp(),
    lease_token = NULL,
    lease_expires_at = NULL,
    locked_by = NULL,
    error_message = CASE WHEN lost.charge = 0
        THEN 'the job was in progress without a lease: whatever ran it before is gone'
        ELSE format('the worker %%s died or was cut off while it ran this job (attempt %%s of %%s)%%s',
                    coalesce(lost.locked_by, 'that held it'), jobqueue.one_more(t.retry_count), t.max_retries,
                    CASE WHEN t.crash_count >= 1
                         THEN format('; it happened %%s times in a row, so the job itself may kill its worker', jobqueue.one_more(t.crash_count))
                         ELSE '' END) END
FROM lost
WHERE t.id = lost.id AND (SELECT set_config('lock_timeout', %(patience)s, true)) IS NOT NULL
RETURNING t.id, lost.locked_by, lost.charge, t.status = {failed} AS failed, jobqueue.one_more(lost.retry_count) AS attempt,
    t.started_at::timestamptz AS started_at, t.error_message::text AS error),
kept AS (
INSERT INTO jobqueue.attempts (queue, job_id, attempt, started_at, ended_at, outcome, worker, error)
SELECT {queue}, rescued.id::text, rescued.attempt, rescued.started_at, clock_timestamp(), 'crashed', rescued.locked_by, rescued.error
FROM rescued
WHERE rescued.charge = 1)
SELECT rescued.id, coalesce(rescued.locked_by, ''), rescued.failed FROM rescued
