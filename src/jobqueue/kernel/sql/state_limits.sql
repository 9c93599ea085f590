-- States what this process limits of a queue, and forgets what processes stated that are gone. in: queue, worker, concurrency,
-- spacing, burst (all three NULL: it limits nothing). out: the names of living processes that state otherwise.
SELECT jobqueue.state_limits(%(queue)s::text, %(worker)s::text, %(concurrency)s::int, %(spacing)s::bigint, %(burst)s::int)
