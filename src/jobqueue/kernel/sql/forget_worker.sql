-- Removes this process from the list, and all that have not beaten for a day. in: name.
DELETE FROM jobqueue.workers WHERE name = %(name)s OR beat_at < now() - interval '1 day'
