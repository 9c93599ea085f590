-- Gives delayed jobs that have become due a position, oldest first, at the end of their lanes.
-- in: back (seconds: jobs that became due longer ago are not looked for; NULL: all). out: how many.
-- Locks the rows it changes, which gives the transaction its number before it draws a position.
-- Plan: the delayed index, then the primary key. The ARRAY makes an initplan, whose order unnest keeps.
WITH promoted AS (
    UPDATE {table} AS t
    SET position = due.position
    FROM (
        SELECT ids.id, nextval('jobqueue.position') AS position
        FROM unnest(ARRAY(
            SELECT c.id FROM {table} AS c
            WHERE (c.status = {pending}) IS TRUE AND c.position IS NULL AND c.run_after <= statement_timestamp()
              AND c.run_after >= coalesce(statement_timestamp() - make_interval(secs => %(back)s::float8), '-infinity')
              AND NOT jobqueue.is_suspect(c.crash_count::bigint, c.retry_count::bigint, c.max_retries::bigint)
            ORDER BY c.run_after
            LIMIT 1000
            FOR NO KEY UPDATE SKIP LOCKED)) AS ids (id)) AS due
    WHERE t.id = due.id
    RETURNING 1)
SELECT count(*) FROM promoted
