-- Cancels jobs, whoever holds them: the table's trigger takes the lease away and tells the holder.
-- in: ids, and what the filters ask for. out: id, true. Leaves locked rows out. Plan: the index on id.
UPDATE {table} AS job
SET status = {cancelled},
    error_message = 'cancelled by an operator' || coalesce('; last error: ' || job.error_message, ''),
    updated_at = clock_timestamp()
WHERE job.id = ANY (ARRAY(
    SELECT t.id FROM {table} AS t
    WHERE {source} AND {matches}
    FOR NO KEY UPDATE SKIP LOCKED))
RETURNING job.id, true
