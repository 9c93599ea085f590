-- The queue's table and words, as adopt() registered them. in: name.
SELECT table_name, id_type, pending, processing, completed, failed, cancelled, coalesce_by
FROM jobqueue.queues
WHERE name = %(name)s
