-- Lets processes claim from a queue again, and tells them. in: queue. out: a row unless it was not paused.
DELETE FROM jobqueue.pauses WHERE queue = %(queue)s RETURNING 1
