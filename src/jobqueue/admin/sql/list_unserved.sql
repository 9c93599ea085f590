-- Kinds of jobs that a worker put off because it does not serve them, and that nobody else has taken since. Such jobs are put off
-- for little: they are among the first that are delayed, and no more of those are looked at. out: kind, how many.
SELECT kind, count(*)
FROM (SELECT kind, error_message, created_at
      FROM public.jobs
      WHERE (status = 'pending') IS TRUE AND position IS NULL AND run_after <= now() + interval '2 minutes'
      ORDER BY run_after
      LIMIT 10000) AS waiting
WHERE error_message LIKE 'no process has been found that serves the kind%%'
  AND (created_at < now() - interval '1 minute') IS NOT FALSE
GROUP BY 1
ORDER BY 2 DESC, 1
