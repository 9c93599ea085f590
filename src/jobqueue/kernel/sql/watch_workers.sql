-- The presence of every worker that has one. in: lock (the class of the advisory lock).
-- out: name, presence, fenced_after, seconds since the last beat, whether somebody holds the presence's lock, the start of the
-- server.
-- The locks are read and none is taken: who tries a lock holds it for a moment, and others would see it held.
-- Plan: the workers' primary key, and the lock table once.
SELECT w.name, w.presence, w.fenced_after, extract(epoch FROM clock_timestamp() - w.beat_at)::float8,
       w.presence::oid IN (
           SELECT l.objid FROM pg_locks AS l
           WHERE l.locktype = 'advisory' AND l.classid = (%(lock)s)::bigint::oid AND l.objsubid = 2 AND l.granted
             AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())),
       extract(epoch FROM pg_postmaster_start_time())::float8
FROM jobqueue.workers AS w
WHERE w.presence IS NOT NULL
ORDER BY w.name
