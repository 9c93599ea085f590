-- Queues that are paused, and the limits that processes state for them. docs/decisions/0010-limits.md says why so.

CREATE TABLE jobqueue.pauses (
    queue     text PRIMARY KEY REFERENCES jobqueue.queues (name) ON UPDATE CASCADE ON DELETE CASCADE,
    paused_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE jobqueue.pauses IS 'Queues that no process claims from. Every claim looks here; jobs that were claimed before end as they are.';

-- Resumed: whoever waits looks at once. Paused: whoever serves the queue learns that it need not look.
CREATE FUNCTION jobqueue.tell_pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobqueue', 'due ' || CASE TG_OP WHEN 'DELETE' THEN OLD.queue ELSE NEW.queue END);
    RETURN NULL;
END $$;
CREATE TRIGGER jobqueue_tell AFTER INSERT OR DELETE ON jobqueue.pauses
    FOR EACH ROW EXECUTE FUNCTION jobqueue.tell_pause();

CREATE TABLE jobqueue.limits (
    queue              text NOT NULL REFERENCES jobqueue.queues (name) ON UPDATE CASCADE ON DELETE CASCADE,
    stated_by          text NOT NULL,
    stated_at          timestamptz NOT NULL DEFAULT now(),
    global_concurrency int CHECK (global_concurrency > 0),
    spacing            bigint CHECK (spacing > 0),
    burst              int CHECK (burst > 0),
    PRIMARY KEY (queue, stated_by),
    CHECK ((spacing IS NULL) = (burst IS NULL))
);
COMMENT ON TABLE jobqueue.limits IS
    'What each process says of a queue''s limits over all processes. Of what living processes say the strictest holds.';
COMMENT ON COLUMN jobqueue.limits.stated_by IS 'The name of a process, as in jobqueue.workers.';
COMMENT ON COLUMN jobqueue.limits.global_concurrency IS 'Jobs that may be leased at once. NULL: any number.';
COMMENT ON COLUMN jobqueue.limits.spacing IS 'Nanoseconds from one job''s start to the next one''s. NULL: none.';
COMMENT ON COLUMN jobqueue.limits.burst IS 'Jobs that may start at once after a rest.';

-- Whether a statement of jobqueue.limits counts: its process has shown itself lately, or has only just stated it.
CREATE FUNCTION jobqueue.is_stated(stated_by text, stated_at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN stated_at > now() - interval '1 minute'
        OR EXISTS (SELECT FROM jobqueue.workers AS w WHERE w.name = stated_by AND w.beat_at > now() - interval '1 minute');

-- The name of the sequence that holds when the next job of a queue with a rate falls due, in nanoseconds since 1970.
-- A sequence, because it is changed in place: a row would leave a version behind for each claim, which nobody can clear away
-- while a snapshot is pinned. And because it is read as it is now, whatever the reader's snapshot is.
CREATE FUNCTION jobqueue.rate_sequence(queue text) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN format('jobqueue.%I', 'rate ' || CASE WHEN octet_length(queue) <= 50 THEN queue ELSE md5(queue) END);

-- States a process' limits, and forgets what processes stated that are gone. Nothing stated: none of its own. Returns the names
-- of living processes that state other ones.
CREATE FUNCTION jobqueue.state_limits(queue text, stated_by text, global_concurrency int, spacing bigint, burst int) RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    name text := jobqueue.rate_sequence(queue);
BEGIN
    DELETE FROM jobqueue.limits AS l
        WHERE l.queue = queue AND (l.stated_by = stated_by OR NOT jobqueue.is_stated(l.stated_by, l.stated_at));
    IF spacing IS NOT NULL AND to_regclass(name) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('jobqueue.state_limits', 0));
        EXECUTE format('CREATE SEQUENCE IF NOT EXISTS %s', name);
    END IF;
    IF global_concurrency IS NOT NULL OR spacing IS NOT NULL THEN
        INSERT INTO jobqueue.limits VALUES (queue, stated_by, now(), global_concurrency, spacing, burst);
    END IF;
    RETURN ARRAY(
        SELECT l.stated_by FROM jobqueue.limits AS l
        WHERE l.queue = queue AND jobqueue.is_stated(l.stated_by, l.stated_at)
          AND (l.global_concurrency, l.spacing, l.burst) IS DISTINCT FROM (global_concurrency, spacing, burst)
        ORDER BY l.stated_by);
END $$;

-- How many jobs of a queue may be leased now, at most `most`. The caller leases them in the same transaction, which nobody
-- else does meanwhile, and tells jobqueue.take_permits how many they were.
--   held          the queue's table, quoted; `processing` its word
--   back          leases that ran out longer ago than so many seconds are not looked for; NULL: all
--   patience      milliseconds after which the server ends a transaction in which the client stands still
--   again         in how many seconds it is worth to ask again, where `jobs` is less than `most`
--   lagging       whether leases were counted that have run out and were not yet taken back
--   spacing, burst, due   the rate that holds, for jobqueue.take_permits
-- A volatile function: each of its statements sees what was committed before, and so what the last holder of the lock did.
CREATE FUNCTION jobqueue.permit(
    queue text, held text, processing text, most int, own_concurrency int, own_spacing bigint, own_burst int,
    back float8, patience text,
    OUT jobs int, OUT again float8, OUT lagging boolean,
    OUT spacing bigint, OUT burst int, OUT due bigint
) LANGUAGE plpgsql VOLATILE
    SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
#variable_conflict use_variable
DECLARE
    concurrency int;
    leased      int;
    first       timestamptz;
    moment      bigint;
BEGIN
    lagging := false;
    PERFORM set_config('idle_in_transaction_session_timeout', patience, true);
    IF NOT pg_try_advisory_xact_lock(1785684594, hashtext(queue)) THEN
        -- Somebody claims at this moment. Nobody waits for a lock: a process that is stopped may hold it.
        jobs := 0;
        again := 0.005;
        RETURN;
    END IF;
    SELECT least(min(l.global_concurrency), own_concurrency), greatest(max(l.spacing), own_spacing), least(min(l.burst), own_burst)
        INTO concurrency, spacing, burst
        FROM jobqueue.limits AS l WHERE l.queue = queue AND jobqueue.is_stated(l.stated_by, l.stated_at);
    jobs := most;
    IF concurrency IS NOT NULL THEN
        EXECUTE format(
            'SELECT count(*), min(lease_expires_at) FROM (
                 SELECT lease_expires_at FROM %s WHERE status = %L AND lease_expires_at >= $1
                 ORDER BY lease_expires_at LIMIT $2) AS leased', held, processing)
            INTO leased, first
            USING coalesce(clock_timestamp() - make_interval(secs => back), '-infinity'), concurrency;
        lagging := coalesce(first < clock_timestamp(), false);
        IF concurrency - leased < jobs THEN
            jobs := concurrency - leased;
            again := 0.5;
        END IF;
    END IF;
    IF spacing IS NOT NULL THEN
        moment := jobqueue.nanoseconds();
        -- Nobody has used up more than the burst: what is further off was so by another rate, or a clock that was set back.
        due := least(jobqueue.next_due(queue), moment + burst * spacing);
        leased := burst - ceil(greatest(0, due - moment)::numeric / spacing);
        IF leased < jobs THEN
            jobs := leased;
            again := (due - moment - (burst - 1) * spacing) / 1e9;
        END IF;
    END IF;
END $$;

-- When the next job of a queue with a rate falls due; 0 where none has started.
CREATE FUNCTION jobqueue.next_due(queue text) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN coalesce(pg_sequence_last_value(to_regclass(jobqueue.rate_sequence(queue))), 0);

CREATE FUNCTION jobqueue.nanoseconds() RETURNS bigint
    LANGUAGE sql VOLATILE
    RETURN (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint;

-- Notes that so many jobs have started: they count from now on, which is after they were stamped. Returns in how many seconds
-- the rate lets another one start.
CREATE FUNCTION jobqueue.take_permits(queue text, jobs bigint, spacing bigint, burst int, due bigint) RETURNS float8
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment bigint;
BEGIN
    IF spacing IS NULL OR jobs = 0 THEN
        RETURN NULL;
    END IF;
    moment := jobqueue.nanoseconds();
    due := greatest(due, moment) + jobs * spacing;
    PERFORM setval(jobqueue.rate_sequence(queue)::regclass, due);
    RETURN (due - moment - (burst - 1) * spacing) / 1e9;
END $$;

-- A queue may say how many attempts its jobs have.
UPDATE jobqueue.rights SET columns = columns || '{max_retries}'
    WHERE role = 'jobqueue_worker' AND privilege = 'UPDATE' AND 'lease_token' = ANY (columns) AND NOT 'max_retries' = ANY (columns);

-- The worker looks at pauses with a lock on the table, for which it must be able to update; it pauses and resumes.
INSERT INTO jobqueue.rights (role, target, privilege) VALUES
    ('jobqueue_worker', 'jobqueue.pauses', 'SELECT'),
    ('jobqueue_worker', 'jobqueue.pauses', 'INSERT'),
    ('jobqueue_worker', 'jobqueue.pauses', 'UPDATE'),
    ('jobqueue_worker', 'jobqueue.pauses', 'DELETE'),
    ('jobqueue_worker', 'jobqueue.limits', 'SELECT'),
    ('jobqueue_worker', 'jobqueue.limits', 'UPDATE'),
    ('jobqueue_worker', 'jobqueue.limits', 'DELETE'),
    ('jobqueue_reader', 'jobqueue.pauses', 'SELECT'),
    ('jobqueue_reader', 'jobqueue.limits', 'SELECT');

SELECT jobqueue.grant_as_on_workers('jobqueue.pauses'), jobqueue.grant_as_on_workers('jobqueue.limits');
