-- How attempts at one job ended, the newest first, up to {limit}. in: id. Plan: the primary key of the attempts.
SELECT a.attempt, a.outcome, a.started_at, a.ended_at, a.worker, a.stages, a.error
FROM jobqueue.attempts AS a
WHERE a.queue = {queue} AND a.job_id = (%(id)s::{id_type})::text
ORDER BY a.id DESC
LIMIT {limit}
