-- Extends leases that are still held. in: ids, tokens (pairs), lease seconds.
-- out: ids still held, and whether each was extended; those missing are lost.
-- Locks the rows it extends, and waits for nobody: a row that somebody keeps locked is nobody else's to take meanwhile,
-- and must not cost this process its other leases. Plan: primary key.
WITH held AS MATERIALIZED (
    SELECT t.id
    FROM unnest(%(ids)s::{id_type}[], %(tokens)s::uuid[]) AS held (id, token)
    JOIN {table} AS t ON t.id = held.id
    WHERE t.lease_token = held.token AND t.lease_expires_at IS NOT NULL),
renewed AS (
    UPDATE {table} AS t
    SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE t.id = ANY (ARRAY(
        SELECT c.id
        FROM unnest(%(ids)s::{id_type}[], %(tokens)s::uuid[]) AS held (id, token)
        JOIN {table} AS c ON c.id = held.id
        WHERE c.lease_token = held.token AND c.lease_expires_at IS NOT NULL
        FOR NO KEY UPDATE OF c SKIP LOCKED))
    RETURNING t.id)
SELECT held.id, renewed.id IS NOT NULL FROM held LEFT JOIN renewed ON renewed.id = held.id
