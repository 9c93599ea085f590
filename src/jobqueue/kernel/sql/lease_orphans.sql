-- Gives one lease to rows that are in progress without one (a predecessor left them, or somebody set them by hand): rescue
-- takes them when it runs out. A token that such a row has is of a lease that is over. in: lease seconds. out: how many.
-- Plan: the lease index, its NULLs (the order, which says nothing, keeps the planner from a host's index on the status).
WITH orphans AS (
    UPDATE {table} AS t
    SET lease_token = NULL,
        lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE t.id = ANY (ARRAY(
        SELECT c.id FROM {table} AS c
        WHERE c.status = {processing} AND c.lease_expires_at IS NULL
        ORDER BY c.lease_expires_at
        LIMIT 500
        FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING 1)
SELECT count(*) FROM orphans
