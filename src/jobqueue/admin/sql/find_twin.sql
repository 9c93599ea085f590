-- The pending twin that is claimed before a job, if there is one. in: id. Plan: the coalesce index.
SELECT other.id
FROM {table} AS t
JOIN {table} AS other ON other.{key} = t.{key} AND other.id <> t.id
WHERE t.id = %(id)s::{id_type} AND (other.status = {pending}) IS TRUE
  AND (other.position IS NOT NULL OR other.run_after <= statement_timestamp())
  AND (-other.priority::bigint, coalesce(other.position, 0)) < (-t.priority::bigint, coalesce(t.position, 0))
ORDER BY other.priority DESC, other.position
LIMIT 1
