-- Jobs completed in the last {limit} minutes, the last 5 and the last one.
-- Plan: no index of ours serves this, so it is run only when the planner promises that it costs little: the table is
-- small, or its owner has an index on completed_at.
SELECT count(*),
       count(*) FILTER (WHERE t.completed_at > now() - interval '5 minutes'),
       count(*) FILTER (WHERE t.completed_at > now() - interval '1 minute')
FROM {table} AS t
WHERE t.status = {completed} AND t.completed_at > now() - make_interval(mins => {limit})
