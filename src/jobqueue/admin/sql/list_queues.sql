-- Every table that was adopted and is still there: its words and key, and whether it tells its jobs apart by `kind`.
-- out: one row a queue, by name.
SELECT q.name, q.table_name, q.id_type, q.pending, q.processing, q.completed, q.failed, q.cancelled, q.coalesce_by,
       EXISTS (SELECT FROM pg_attribute AS a
               WHERE a.attrelid = to_regclass(q.table_name) AND a.attname = 'kind' AND NOT a.attisdropped)
FROM jobqueue.queues AS q
WHERE to_regclass(q.table_name) IS NOT NULL
ORDER BY q.name
