-- Workers that are dead for certain: they are silent, and nobody holds their presence's lock, which a process gives up when it ends.
-- in: seconds of silence, lock (the class), lease seconds. out: name, presence.
-- After a restart of the database everybody's presence is gone: holders get one lease to come back.
-- Plan: a small table. Tries the locks of silent workers only, and gives them back when the statement ends.
WITH silent AS MATERIALIZED (
    SELECT w.name, w.presence
    FROM jobqueue.workers AS w
    WHERE w.presence IS NOT NULL AND w.beat_at < clock_timestamp() - make_interval(secs => %(silence)s)
      AND clock_timestamp() >= pg_postmaster_start_time() + make_interval(secs => %(lease)s))
SELECT silent.name, silent.presence
FROM silent
WHERE pg_try_advisory_xact_lock(%(lock)s, silent.presence)
