-- Every queue as operators and processes have it: since when it is paused, and the strictest limits that living processes state.
-- out: name, table, paused_at, global concurrency, nanoseconds from one job to the next, burst; by name.
SELECT q.name, q.table_name, p.paused_at, l.concurrency, l.spacing, l.burst
FROM jobqueue.queues AS q
LEFT JOIN jobqueue.pauses AS p ON p.queue = q.name
CROSS JOIN LATERAL (
    SELECT min(l.global_concurrency) AS concurrency, max(l.spacing) AS spacing, min(l.burst) AS burst
    FROM jobqueue.limits AS l
    WHERE l.queue = q.name AND jobqueue.is_stated(l.stated_by, l.stated_at)) AS l
WHERE to_regclass(q.table_name) IS NOT NULL
ORDER BY q.name
