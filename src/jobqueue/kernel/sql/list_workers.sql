-- The processes that have shown themselves lately. out: one row a process; the seconds since it last did.
SELECT name, version, queues, concurrency, in_flight, draining, started_at,
       extract(epoch FROM clock_timestamp() - beat_at)::float8
FROM jobqueue.workers
ORDER BY name
LIMIT 1000
