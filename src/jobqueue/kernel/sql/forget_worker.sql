-- Removes this process from the list, and with it those that have not been heard of for a day. in: name.
DELETE FROM jobqueue.workers WHERE name = %(name)s OR beat_at < now() - interval '1 day'
