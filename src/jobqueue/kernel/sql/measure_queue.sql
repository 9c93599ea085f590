-- Depth by state, counted to {cap} and no further, and the seconds that the oldest due job has waited.
-- Plan: the partial indexes, each read to the cap: in its order, so that no other way is cheaper.
-- Completed jobs are not counted: that would read them all.
SELECT
    (SELECT count(*) FROM (SELECT FROM {table} WHERE (status = {pending}) IS TRUE AND position IS NOT NULL ORDER BY priority DESC, position DESC LIMIT {cap}) AS due),
    (SELECT count(*) FROM (SELECT FROM {table} WHERE (status = {pending}) IS TRUE AND position IS NULL ORDER BY run_after LIMIT {cap}) AS delayed),
    (SELECT count(*) FROM (SELECT FROM {table} WHERE status = {processing} ORDER BY lease_expires_at LIMIT {cap}) AS processing),
    (SELECT count(*) FROM (SELECT FROM {table} WHERE status = {failed} ORDER BY completed_at LIMIT {cap}) AS failed),
    coalesce((
        SELECT max(extract(epoch FROM statement_timestamp() - greatest(head.run_after, statement_timestamp() - interval '1 year')))::float8
        FROM unnest((SELECT %(priorities)s::bigint[]), (SELECT %(floors)s::bigint[])) AS lane (priority, floor)
        CROSS JOIN LATERAL (
            SELECT c.run_after FROM {table} AS c
            WHERE (c.status = {pending}) IS TRUE AND c.position IS NOT NULL
              AND c.priority = lane.priority AND c.position >= lane.floor
            ORDER BY c.position LIMIT 1) AS head), 0)
