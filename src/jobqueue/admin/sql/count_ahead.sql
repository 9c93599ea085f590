-- Due jobs that are claimed before one of the lane {priority} at the place {place}: those of higher priority, and those before
-- it in its own lane, each counted to {cap} and no further. Plan: the claim index, read in its order.
SELECT
    (SELECT count(*) FROM (SELECT FROM {table} AS t
                           WHERE (t.status = {pending}) IS TRUE AND t.position IS NOT NULL AND t.priority > {priority}
                           ORDER BY t.priority DESC, t.position DESC LIMIT {cap}) AS higher),
    (SELECT count(*) FROM (SELECT FROM {table} AS t
                           WHERE (t.status = {pending}) IS TRUE AND t.position IS NOT NULL AND t.priority = {priority}
                             AND t.position < {place}
                           ORDER BY t.position LIMIT {cap}) AS before)
