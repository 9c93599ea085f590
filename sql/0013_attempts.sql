-- How each attempt at a job ended, for people and for screens to look at: a job's own row tells of its last one only.
--
-- A row is written by the statement that records the outcome, so there is one for each outcome that counts and none for another.
-- Nothing is decided by it. The kind job-retention deletes rows when they are old.
CREATE TABLE jobqueue.attempts (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    queue      text NOT NULL,
    job_id     text NOT NULL,
    attempt    bigint NOT NULL,
    started_at timestamptz,
    ended_at   timestamptz NOT NULL,
    outcome    text NOT NULL,
    worker     text,
    stages     jsonb,
    error      text,
    -- The key is what a job's attempts are found by; with a key, rows can be deleted from a table that is replicated.
    PRIMARY KEY (queue, job_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX attempts_ended_at ON jobqueue.attempts (ended_at);

COMMENT ON TABLE jobqueue.attempts IS
    'Attempts that have ended, kept RETENTION_DAYS: all of publish_jobs, download_artifacts and webhook_deliveries, those that did not complete of other queues.';
COMMENT ON COLUMN jobqueue.attempts.outcome IS 'completed, retried, failed, cancelled or crashed (the worker died or was cut off).';
COMMENT ON COLUMN jobqueue.attempts.stages IS 'Milliseconds by the name of the stage, as far as they were known when the outcome was recorded. NULL: none.';

-- What a migration adds for workers: whoever works on queues without owning them goes on doing so. His right to jobqueue.workers
-- tells who that is; of those rights he gets the same on the table.
CREATE FUNCTION jobqueue.grant_as_on_workers(target regclass, privileges text[] DEFAULT '{SELECT,INSERT,UPDATE,DELETE}') RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END AS grantee, acl.privilege_type AS privilege
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS acl
        WHERE c.oid = 'jobqueue.workers'::regclass AND acl.grantee <> c.relowner AND acl.privilege_type = ANY (privileges)
    LOOP
        EXECUTE format('GRANT %s ON %s TO %s', held.privilege, target, held.grantee);
    END LOOP;
END $$;
SELECT jobqueue.grant_as_on_workers('jobqueue.attempts');
