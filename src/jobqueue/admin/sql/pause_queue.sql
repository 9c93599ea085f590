-- Pauses a queue for every claim that begins after this is committed. in: queue. out: a row unless it was paused already.
INSERT INTO jobqueue.pauses (queue) VALUES (%(queue)s) ON CONFLICT DO NOTHING RETURNING 1
