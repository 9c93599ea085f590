-- Leases up to {limit} due jobs, highest lane first, each lane from its floor.
-- in: priorities bigint[], floors bigint[] (pairs, in the order to claim), token uuid, worker, lease seconds
-- out: one row a job; its wait counts as a year at most, because a host may write '-infinity'; whether it may have twins.
-- Locks only these rows. A queue that is paused gives none, and one that somebody limits only to claim_limited.
-- Plan: one descent of the claim index a lane, then the primary key. The limit is a literal, so that a cached plan knows it.
-- The ARRAY makes an initplan, so that rows are locked once and the update can only go by primary key.
UPDATE {table} AS t
SET status = {processing},
    lease_token = %(token)s::uuid,
    lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s),
    locked_by = %(worker)s,
    started_at = clock_timestamp(),
    updated_at = clock_timestamp(){retries}
WHERE t.id = ANY (ARRAY(
    SELECT job.id
    FROM unnest((SELECT %(priorities)s::bigint[]), (SELECT %(floors)s::bigint[])) AS lane (priority, floor)
    CROSS JOIN LATERAL (
        SELECT c.id
        FROM {table} AS c
        WHERE (c.status = {pending}) IS TRUE AND c.position IS NOT NULL
          AND c.priority = lane.priority AND c.position >= lane.floor
        ORDER BY c.position
        LIMIT {limit}
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS job
    WHERE {open}
    LIMIT {most}
))
RETURNING t.id, t.priority, t.position, t.retry_count, t.max_retries, t.crash_count,
          extract(epoch FROM clock_timestamp() - greatest(t.run_after, clock_timestamp() - interval '1 year'))::float8,
          {keyed}, {columns}
