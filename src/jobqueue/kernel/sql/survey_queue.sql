-- Looks, without locking, at what a claim from the floors would not see.
-- in: priorities, floors (known lanes and their safe floors), lows, highs (the gaps between), all bigint[];
--     back (seconds: delayed jobs that became due longer ago are not looked for; NULL: all)
-- out: one row: first pending position of each known lane at or above its floor (bigint[], NULL where there is none),
--      a priority in each gap that has a due job, seconds until the next delayed job (NULL: none),
--      whether a suspect is due, the oldest transaction still running, the last position drawn, the start of the server,
--      whether the queue is paused, whether somebody limits it.
-- Plan: index probes only; the claim index once a lane and once a gap, the delayed and the suspect index once. The sequence is
-- asked by a function: it can be read as a table only by a scan, which a session that goes by indexes takes for so costly
-- that the server compiles the statement.
SELECT
    ARRAY(
        SELECT (SELECT c.position FROM {table} AS c
                WHERE (c.status = {pending}) IS TRUE AND c.position IS NOT NULL
                  AND c.priority = lane.priority AND c.position >= lane.floor
                ORDER BY c.position LIMIT 1)
        FROM unnest((SELECT %(priorities)s::bigint[]), (SELECT %(floors)s::bigint[])) WITH ORDINALITY AS lane (priority, floor, n)
        ORDER BY lane.n),
    ARRAY(
        SELECT found.priority
        FROM unnest((SELECT %(lows)s::bigint[]), (SELECT %(highs)s::bigint[])) AS gap (low, high)
        CROSS JOIN LATERAL (
            SELECT c.priority FROM {table} AS c
            WHERE (c.status = {pending}) IS TRUE AND c.position IS NOT NULL AND c.priority > gap.low AND c.priority < gap.high
            ORDER BY c.priority DESC LIMIT 1) AS found),
    (SELECT extract(epoch FROM least(c.run_after, clock_timestamp() + interval '1 year') - clock_timestamp())::float8 FROM {table} AS c
     WHERE (c.status = {pending}) IS TRUE AND c.position IS NULL
       AND c.run_after >= coalesce(statement_timestamp() - make_interval(secs => %(back)s::float8), '-infinity')
       AND NOT jobqueue.is_suspect(c.crash_count::bigint, c.retry_count::bigint, c.max_retries::bigint)
     ORDER BY c.run_after LIMIT 1),
    EXISTS (SELECT FROM {table} AS c
            WHERE (c.status = {pending}) IS TRUE AND c.position IS NULL AND c.run_after <= statement_timestamp()
              AND c.crash_count > 0 AND jobqueue.is_suspect(c.crash_count::bigint, c.retry_count::bigint, c.max_retries::bigint)),
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
    coalesce(pg_sequence_last_value('jobqueue.position'::regclass), 0),
    extract(epoch FROM pg_postmaster_start_time())::float8,
    EXISTS (SELECT FROM jobqueue.pauses AS p WHERE p.queue = {queue}),
    EXISTS (SELECT FROM jobqueue.limits AS l WHERE l.queue = {queue})
