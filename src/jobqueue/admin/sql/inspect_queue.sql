-- What a person asks of a queue: depth by state and failures of the last hour, counted to {cap} and no further, and the
-- seconds that the oldest due job has waited, of those whose turn is next in their lanes.
-- Unlike measure_queue it needs no lanes and no worker: a delayed job whose time has come is due, although nobody has
-- promoted it yet. One whose time is -infinity is due now: it has waited for no time that can be told.
-- Plan: the partial indexes, each read to the cap in its order; one descent of the claim index a lane, for at most 100 lanes.
WITH RECURSIVE lane (priority, n) AS (
    (SELECT c.priority, 1 FROM {table} AS c
     WHERE (c.status = {pending}) IS TRUE AND c.position IS NOT NULL
     ORDER BY c.priority DESC LIMIT 1)
    UNION ALL
    SELECT below.priority, lane.n + 1
    FROM lane
    CROSS JOIN LATERAL (
        SELECT c.priority FROM {table} AS c
        WHERE (c.status = {pending}) IS TRUE AND c.position IS NOT NULL AND c.priority < lane.priority
        ORDER BY c.priority DESC LIMIT 1) AS below
    WHERE lane.n < 100)
SELECT
    (SELECT count(*) FROM (SELECT FROM {table} AS c
                           WHERE (c.status = {pending}) IS TRUE AND c.position IS NOT NULL
                           ORDER BY c.priority DESC, c.position DESC LIMIT {cap}) AS due)
    + (SELECT count(*) FROM (SELECT FROM {table} AS c
                             WHERE (c.status = {pending}) IS TRUE AND c.position IS NULL
                               AND c.run_after <= statement_timestamp() ORDER BY c.run_after LIMIT {cap}) AS ripe),
    (SELECT count(*) FROM (SELECT FROM {table} AS c
                           WHERE (c.status = {pending}) IS TRUE AND c.position IS NULL
                             AND c.run_after > statement_timestamp() ORDER BY c.run_after LIMIT {cap}) AS delayed),
    (SELECT count(*) FROM (SELECT FROM {table} AS c WHERE c.status = {processing}
                           ORDER BY c.lease_expires_at LIMIT {cap}) AS processing),
    (SELECT count(*) FROM (SELECT FROM {table} AS c WHERE c.status = {failed}
                           ORDER BY c.completed_at LIMIT {cap}) AS failed),
    (SELECT count(*) FROM (SELECT FROM {table} AS c
                           WHERE c.status = {failed} AND c.completed_at > now() - interval '1 hour'
                           ORDER BY c.completed_at LIMIT {cap}) AS failed_lately),
    extract(epoch FROM statement_timestamp() - least(
        (SELECT min(CASE WHEN isfinite(head.run_after) THEN head.run_after ELSE statement_timestamp() END)
         FROM lane
         CROSS JOIN LATERAL (
            SELECT c.run_after FROM {table} AS c
            WHERE (c.status = {pending}) IS TRUE AND c.position IS NOT NULL AND c.priority = lane.priority
            ORDER BY c.position LIMIT 1) AS head),
        (SELECT CASE WHEN isfinite(c.run_after) THEN c.run_after ELSE statement_timestamp() END FROM {table} AS c
         WHERE (c.status = {pending}) IS TRUE AND c.position IS NULL AND c.run_after <= statement_timestamp()
         ORDER BY c.run_after LIMIT 1)))::float8
