-- Ends the leases of workers that are gone, so that rescue takes their jobs. in: names, presences (pairs).
-- A worker that has taken another presence meanwhile has come back, and keeps its leases.
-- out: how many (at most 500 a call).
-- Plan: the lease index, which is small; then the primary key.
WITH expired AS (
    UPDATE {table} AS t
    SET lease_expires_at = statement_timestamp() - interval '1 microsecond'
    WHERE t.id = ANY (ARRAY(
        SELECT c.id FROM {table} AS c
        WHERE c.status = {processing} AND c.lease_expires_at >= statement_timestamp() AND c.locked_by = ANY (ARRAY(
              SELECT w.name FROM jobqueue.workers AS w
              JOIN unnest(%(names)s::text[], %(presences)s::int[]) AS gone (name, presence) USING (name, presence)))
        ORDER BY c.lease_expires_at
        LIMIT 500
        FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING 1)
SELECT count(*) FROM expired
