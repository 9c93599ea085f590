-- Deletes finished jobs. in: ids, and what the filters ask for. out: id, true. Leaves locked rows out.
-- Plan: the index on id.
DELETE FROM {table} AS job
WHERE job.id = ANY (ARRAY(
    SELECT t.id FROM {table} AS t
    WHERE {source} AND {matches}
    FOR UPDATE SKIP LOCKED))
RETURNING job.id, true
