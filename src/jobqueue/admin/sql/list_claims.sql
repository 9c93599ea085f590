-- The claims that are under way, of any queue, by their transactions. Every claim reads jobqueue.pauses with a lock on the table
-- that nobody else takes, and takes it before it looks at the rows: one that may not have seen a pause is in this list.
SELECT virtualtransaction
FROM pg_locks
WHERE locktype = 'relation' AND relation = 'jobqueue.pauses'::regclass AND mode = 'RowShareLock'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
