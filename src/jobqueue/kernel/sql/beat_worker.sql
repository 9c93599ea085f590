-- Shows this process, and that it lives.
-- in: name, version, queues, concurrency, in_flight, draining, presence, fenced_after.
INSERT INTO jobqueue.workers AS w (name, version, queues, concurrency, in_flight, draining, presence, fenced_after)
VALUES (%(name)s, %(version)s, %(queues)s, %(concurrency)s, %(in_flight)s, %(draining)s, %(presence)s, %(fenced_after)s)
ON CONFLICT (name) DO UPDATE
SET in_flight = excluded.in_flight, draining = excluded.draining, presence = excluded.presence,
    fenced_after = excluded.fenced_after, beat_at = now()
