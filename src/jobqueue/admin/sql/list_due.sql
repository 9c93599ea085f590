-- Due jobs that match, in the order in which they will be claimed, up to {limit}. out: as list_jobs.
-- Plan: one descent of the claim index a lane, for at most 100 lanes, each read in order until the limit is reached.
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
SELECT {columns}
FROM lane
CROSS JOIN LATERAL (
    SELECT * FROM {table} AS t
    WHERE (t.status = {pending}) IS TRUE AND t.position IS NOT NULL AND t.priority = lane.priority AND {matches}
    ORDER BY t.position
    LIMIT {limit}) AS t
ORDER BY t.priority DESC, t.position
LIMIT {limit}
