-- Leases one suspect: a job whose workers keep dying, which the claimer runs with nothing beside it.
-- in: token uuid, worker, lease seconds. out: as claim_jobs. Locks the row it returns.
-- Plan: the suspect index, whose predicate crash_count > 0 repeats: it holds next to nothing.
UPDATE {table} AS t
SET status = {processing},
    lease_token = %(token)s::uuid,
    lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s),
    locked_by = %(worker)s,
    started_at = clock_timestamp(),
    updated_at = clock_timestamp(){retries}
WHERE t.id = ANY (ARRAY(
    SELECT c.id
    FROM {table} AS c
    WHERE (c.status = {pending}) IS TRUE AND c.position IS NULL AND c.run_after <= statement_timestamp()
      AND c.crash_count > 0 AND jobqueue.is_suspect(c.crash_count::bigint, c.retry_count::bigint, c.max_retries::bigint)
      AND {open}
    ORDER BY c.run_after
    LIMIT {most}
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING t.id, t.priority, coalesce(t.position, 0), t.retry_count, t.max_retries, t.crash_count,
          extract(epoch FROM clock_timestamp() - greatest(t.run_after, clock_timestamp() - interval '1 year'))::float8,
          {keyed}, {columns}
