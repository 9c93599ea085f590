-- Shows this process to people. in: name, version, queues, concurrency, in_flight, draining.
INSERT INTO jobqueue.workers AS w (name, version, queues, concurrency, in_flight, draining)
VALUES (%(name)s, %(version)s, %(queues)s, %(concurrency)s, %(in_flight)s, %(draining)s)
ON CONFLICT (name) DO UPDATE
SET in_flight = excluded.in_flight, draining = excluded.draining, beat_at = now()
