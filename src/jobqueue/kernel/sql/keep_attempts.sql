-- Records outcomes, and leaves a row of jobqueue.attempts for each that was recorded.
-- in: as the statement inside, which returns `id` and lets more columns follow; attempts, stages (JSON or NULL), worker.
-- out: as the statement inside. Plan: as the statement inside.
WITH ended AS (
{recording},
    t.started_at::timestamptz AS started_at, t.error_message::text AS error, {nth} AS nth),
kept AS (
INSERT INTO jobqueue.attempts (queue, job_id, attempt, started_at, ended_at, outcome, worker, stages, error)
SELECT {queue}, ended.id::text, (%(attempts)s::bigint[])[ended.nth], ended.started_at, clock_timestamp(), {outcome},
       %(worker)s, (%(stages)s::text[])[ended.nth]::jsonb, ended.error
FROM ended)
SELECT {answer} FROM ended
