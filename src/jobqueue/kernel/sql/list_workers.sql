-- The processes that have beaten within a day. out: one row a process, its last column the seconds since its last beat.
SELECT name, version, queues, concurrency, in_flight, draining, started_at,
       extract(epoch FROM clock_timestamp() - beat_at)::float8
FROM jobqueue.workers
ORDER BY name
LIMIT 1000
