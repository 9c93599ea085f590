-- Makes one of twins: of jobs that were just claimed the first of each {key} runs, and the others give way, claimed or pending.
-- in: ids, tokens (pairs, of the claim). out: the ids of claimed ones that gave way; at most 1,000 pending ones a claim.
-- What gives way was committed before, so the job that runs, which starts when this has been committed, sees what was
-- written for it. A twin that somebody has locked is left: it is being claimed, or enqueued again.
-- Plan: primary key; then the coalesce index, an entry a twin; suspects and delayed jobs are found there as well.
-- Waits for nobody's lock but one that a host's trigger takes, and for that half a second at most.
WITH held AS MATERIALIZED (
    SELECT t.id, t.lease_token, t.{key} AS key, t.priority, t.position
    FROM {table} AS t
    WHERE {held} AND t.lease_expires_at IS NOT NULL),
-- Apart from it: the planner would rather read a whole index on the key than sort a few rows.
claimed AS MATERIALIZED (
    SELECT h.id, h.lease_token, h.key,
           first_value(h.id) OVER (PARTITION BY h.key ORDER BY h.priority DESC, h.position, h.id) AS stays
    FROM held AS h
    WHERE h.key IS NOT NULL),
twins AS MATERIALIZED (
    SELECT claimed.id, claimed.stays, claimed.lease_token FROM claimed WHERE claimed.id <> claimed.stays
    UNION ALL
    (SELECT twin.id, claimed.stays, NULL
     FROM claimed
     CROSS JOIN LATERAL (
        SELECT c.id FROM {table} AS c
        WHERE (c.status = {pending}) IS TRUE AND c.{key} = claimed.key
        LIMIT 1000
        FOR NO KEY UPDATE SKIP LOCKED) AS twin
     WHERE claimed.id = claimed.stays
     LIMIT 1000)),
gone AS (
    UPDATE {table} AS t
    SET status = {cancelled},
        completed_at = clock_timestamp(),
        updated_at = clock_timestamp(),
        lease_expires_at = NULL,
        locked_by = NULL,
        error_message = 'coalesced into job ' || twins.stays || ', which was claimed first for the same ' || {key_name}
                        || coalesce('; last error: ' || t.error_message, '')
    FROM twins
    WHERE t.id = twins.id
      AND (twins.lease_token IS NULL OR (t.lease_token = twins.lease_token AND t.lease_expires_at IS NOT NULL))
      AND (SELECT set_config('lock_timeout', '500ms', true)) IS NOT NULL
    RETURNING t.id)
SELECT claimed.id FROM claimed JOIN gone ON gone.id = claimed.id
