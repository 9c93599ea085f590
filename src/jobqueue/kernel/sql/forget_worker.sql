-- Removes this process from the list with the limits that it stated, and all that have not beaten for a day. in: name.
WITH unstated AS (DELETE FROM jobqueue.limits WHERE stated_by = %(name)s)
DELETE FROM jobqueue.workers WHERE name = %(name)s OR beat_at < now() - interval '1 day'
