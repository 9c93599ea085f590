-- What operators changed by hand: who, what, and how many rows. Nothing is decided by it.

CREATE TABLE jobqueue.audit (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    who       text NOT NULL,
    action    text NOT NULL,
    target    text NOT NULL,
    selection jsonb NOT NULL DEFAULT '{}',
    changed   bigint
);
CREATE INDEX audit_by_time ON jobqueue.audit (at);
COMMENT ON TABLE jobqueue.audit IS 'Changes of many rows that operators made by command, one row each, for RETENTION_DAYS.';
COMMENT ON COLUMN jobqueue.audit.target IS 'The queue, or the webhook.';
COMMENT ON COLUMN jobqueue.audit.selection IS 'Which rows were meant: states, filters, and up to a hundred ids.';
COMMENT ON COLUMN jobqueue.audit.changed IS 'Rows that were changed; NULL while the change goes on, and after one that was killed.';

-- Commands that change jobs come as the worker; job-retention deletes what is old.
INSERT INTO jobqueue.rights (role, target, privilege) VALUES
    ('jobqueue_worker', 'jobqueue.audit', 'SELECT'), ('jobqueue_worker', 'jobqueue.audit', 'INSERT'),
    ('jobqueue_worker', 'jobqueue.audit', 'UPDATE'), ('jobqueue_worker', 'jobqueue.audit', 'DELETE'),
    ('jobqueue_reader', 'jobqueue.audit', 'SELECT');

SELECT jobqueue.grant_as_on_workers('jobqueue.audit');
