-- Extends leases that are still held. in: ids, tokens (pairs), lease seconds.
-- out: ids still held, and whether each was extended; those missing are lost.
-- Locks the rows it extends, and waits for nobody: nobody else can take a row that somebody keeps locked, and such a row must
-- not cost this process its other leases. Plan: primary key.
WITH held AS MATERIALIZED (
    SELECT t.id FROM {table} AS t WHERE {held} AND t.lease_expires_at IS NOT NULL),
renewed AS (
    UPDATE {table} AS job
    SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE job.id = ANY (ARRAY(
        SELECT t.id FROM {table} AS t
        WHERE {held} AND t.lease_expires_at IS NOT NULL
        FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING job.id)
SELECT held.id, renewed.id IS NOT NULL FROM held LEFT JOIN renewed ON renewed.id = held.id
