-- Schedules: rows that tick. Each tick becomes one job of the queue `jobs`, whoever asks first.
--
-- A process works out ticks and proposes them; what happens is decided here, under the lock of the schedule's row: its
-- `revision` and `next_tick_at` must be those that the proposal was made for, and (schedule, tick, slot) is unique.

CREATE TABLE IF NOT EXISTS public.schedules (
    name text PRIMARY KEY
);
ALTER TABLE public.schedules
    ADD COLUMN IF NOT EXISTS name           text,
    ADD COLUMN IF NOT EXISTS cron           text,
    ADD COLUMN IF NOT EXISTS every_seconds  int,
    ADD COLUMN IF NOT EXISTS timezone       text NOT NULL DEFAULT 'UTC',
    ADD COLUMN IF NOT EXISTS scaled         boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS kind           text,
    ADD COLUMN IF NOT EXISTS payload        jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS missed         text NOT NULL DEFAULT 'once' CHECK (missed IN ('once', 'skip', 'catch_up')),
    ADD COLUMN IF NOT EXISTS grace_seconds  int NOT NULL DEFAULT 60 CHECK (grace_seconds >= 0),
    ADD COLUMN IF NOT EXISTS catch_up       int NOT NULL DEFAULT 10 CHECK (catch_up BETWEEN 1 AND 1000),
    ADD COLUMN IF NOT EXISTS overlap        text NOT NULL DEFAULT 'forbid' CHECK (overlap IN ('forbid', 'allow')),
    ADD COLUMN IF NOT EXISTS jitter_seconds int NOT NULL DEFAULT 0 CHECK (jitter_seconds >= 0),
    ADD COLUMN IF NOT EXISTS max_retries    int NOT NULL DEFAULT 5,
    ADD COLUMN IF NOT EXISTS source         text NOT NULL DEFAULT 'host' CHECK (source IN ('host', 'file')),
    ADD COLUMN IF NOT EXISTS enabled        boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS removed_at     timestamptz,
    ADD COLUMN IF NOT EXISTS paused_at      timestamptz,
    ADD COLUMN IF NOT EXISTS paused_by      text,
    ADD COLUMN IF NOT EXISTS last_tick_at   timestamptz,
    ADD COLUMN IF NOT EXISTS next_tick_at   timestamptz,
    ADD COLUMN IF NOT EXISTS revision       bigint NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS created_at     timestamptz DEFAULT now(),
    ADD COLUMN IF NOT EXISTS updated_at     timestamptz DEFAULT now();
CREATE UNIQUE INDEX IF NOT EXISTS schedules_by_name ON public.schedules (name);
SELECT jobqueue.admit_worker('public.schedules');
COMMENT ON COLUMN public.schedules.source IS
    'file: an entry of SCHEDULES_FILE or of the packaged defaults, which each start of a worker brings up to date. host: left alone.';
COMMENT ON COLUMN public.schedules.revision IS
    'Grows with every change but the ticking itself: a proposal made for another revision is void.';

ALTER TABLE public.jobs
    ADD COLUMN IF NOT EXISTS schedule   text,
    ADD COLUMN IF NOT EXISTS tick_at    timestamptz,
    ADD COLUMN IF NOT EXISTS tick_slot  text,
    ADD COLUMN IF NOT EXISTS tick_until timestamptz;
COMMENT ON COLUMN public.jobs.tick_until IS 'When the schedule ticks next: this tick is not worth another attempt after that.';
CREATE INDEX IF NOT EXISTS jobs_of_schedules ON public.jobs (schedule)
    WHERE schedule IS NOT NULL AND status IN ('pending', 'processing');

-- Files to be purged are found without reading the others.
CREATE INDEX IF NOT EXISTS auction_files_deleted ON public.auction_files (id) WHERE deleted_at IS NOT NULL;

CREATE TABLE jobqueue.schedule_ticks (
    schedule      text NOT NULL,
    tick          timestamptz NOT NULL,
    slot          text NOT NULL DEFAULT 'tick' CHECK (slot IN ('tick', 'call', 'manual')),
    state         text NOT NULL CHECK (state IN ('enqueued', 'completed', 'failed', 'cancelled', 'overlapped', 'missed')),
    called_by     text,
    stands_for    int NOT NULL DEFAULT 1,
    job_id        text,
    fired_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at    timestamptz,
    finished_at   timestamptz,
    attempts      int,
    http_status   int,
    error_message text,
    PRIMARY KEY (schedule, tick, slot)
) WITH (fillfactor = 90);
CREATE INDEX schedule_ticks_completed ON jobqueue.schedule_ticks (finished_at) WHERE state = 'completed';
COMMENT ON TABLE jobqueue.schedule_ticks IS 'What became of each tick. Outlives the tick''s job.';
COMMENT ON COLUMN jobqueue.schedule_ticks.slot IS
    'tick: the tick itself. call: an external cron asked for it long after. manual: a person did; then tick is when.';
COMMENT ON COLUMN jobqueue.schedule_ticks.stands_for IS 'Ticks that were missed and that this one was run, or passed over, for.';

CREATE TABLE jobqueue.breakers (
    target     text PRIMARY KEY,
    failures   int NOT NULL DEFAULT 0,
    trips      int NOT NULL DEFAULT 0,
    open_until timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE jobqueue.breakers IS 'Targets that failed lately, and until when no process calls them.';

CREATE TABLE jobqueue.backend_settings (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    settings    jsonb,
    changed_at  timestamptz,
    fetched_at  timestamptz,
    asked       bigint NOT NULL DEFAULT 0,
    answered    bigint NOT NULL DEFAULT 0,
    not_before  timestamptz NOT NULL DEFAULT now(),
    failures    int NOT NULL DEFAULT 0,
    failed_at   timestamptz,
    last_error  text
);
INSERT INTO jobqueue.backend_settings DEFAULT VALUES;
COMMENT ON TABLE jobqueue.backend_settings IS 'The last good settings of the backend, and who has asked for newer ones.';

-- A schedule whose timing changes, or that is paused, resumed, removed or brought back, ticks from now on: nothing of what
-- lies before is made up for.
CREATE FUNCTION jobqueue.revise_schedule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    NEW.updated_at := now();
    IF (OLD.cron, OLD.every_seconds, OLD.timezone, OLD.scaled, OLD.enabled, OLD.paused_at IS NULL)
       IS DISTINCT FROM (NEW.cron, NEW.every_seconds, NEW.timezone, NEW.scaled, NEW.enabled, NEW.paused_at IS NULL) THEN
        NEW.next_tick_at := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER jobqueue_1_revise BEFORE UPDATE ON public.schedules FOR EACH ROW
    WHEN ((OLD.cron, OLD.every_seconds, OLD.timezone, OLD.scaled, OLD.kind, OLD.payload, OLD.missed, OLD.grace_seconds,
           OLD.catch_up, OLD.overlap, OLD.jitter_seconds, OLD.max_retries, OLD.enabled, OLD.paused_at)
          IS DISTINCT FROM
          (NEW.cron, NEW.every_seconds, NEW.timezone, NEW.scaled, NEW.kind, NEW.payload, NEW.missed, NEW.grace_seconds,
           NEW.catch_up, NEW.overlap, NEW.jitter_seconds, NEW.max_retries, NEW.enabled, NEW.paused_at))
    EXECUTE FUNCTION jobqueue.revise_schedule();

-- A hint for every process that schedules; they look for themselves once a second.
CREATE FUNCTION jobqueue.announce_schedules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobqueue_schedules', '');
    RETURN NULL;
END $$;
CREATE TRIGGER jobqueue_2_announce AFTER UPDATE ON public.schedules FOR EACH ROW
    WHEN (OLD.revision IS DISTINCT FROM NEW.revision) EXECUTE FUNCTION jobqueue.announce_schedules();
CREATE TRIGGER jobqueue_2_announce_set AFTER INSERT OR DELETE ON public.schedules FOR EACH STATEMENT
    EXECUTE FUNCTION jobqueue.announce_schedules();
CREATE TRIGGER jobqueue_2_announce AFTER UPDATE ON jobqueue.backend_settings FOR EACH ROW
    WHEN (OLD.asked IS DISTINCT FROM NEW.asked OR OLD.settings IS DISTINCT FROM NEW.settings)
    EXECUTE FUNCTION jobqueue.announce_schedules();

-- Makes the job of one tick. To be called under the lock of the schedule's row.
-- Returns enqueued, overlapped (the one before has not ended) or taken (there was such a tick already).
CREATE FUNCTION jobqueue.enqueue_tick(
    s public.schedules, at timestamptz, in_slot text, by text, ends timestamptz, ticks int
) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    job text;
BEGIN
    IF EXISTS (SELECT FROM jobqueue.schedule_ticks t WHERE t.schedule = s.name AND t.tick = at AND t.slot = in_slot) THEN
        RETURN 'taken';
    END IF;
    IF s.overlap = 'forbid' AND EXISTS (
        SELECT FROM public.jobs j WHERE j.schedule = s.name AND j.status IN ('pending', 'processing')
    ) THEN
        -- What nobody called for leaves a trace; a caller is told.
        IF by IS NULL THEN
            INSERT INTO jobqueue.schedule_ticks (schedule, tick, slot, state, stands_for)
                VALUES (s.name, at, in_slot, 'overlapped', ticks);
        END IF;
        RETURN 'overlapped';
    END IF;
    -- Jitter belongs to the schedule: each always runs as long after its ticks, and not all at the same moment.
    INSERT INTO public.jobs (kind, payload, run_after, max_retries, schedule, tick_at, tick_slot, tick_until)
        VALUES (s.kind, s.payload,
                greatest(clock_timestamp(), CASE WHEN by IS NULL THEN at + make_interval(
                    secs => s.jitter_seconds * (hashtextextended(s.name, 0) & 65535) / 65536.0) END),
                s.max_retries, s.name, at, in_slot, ends)
        RETURNING id::text INTO job;
    INSERT INTO jobqueue.schedule_ticks (schedule, tick, slot, state, called_by, stands_for, job_id)
        VALUES (s.name, at, in_slot, 'enqueued', by, ticks, job);
    RETURN 'enqueued';
END $$;

-- Takes proposals, an array of {name, revision, expected, ticks: [{at, ends, stands_for, missed}], next}, and returns for each
-- what became of its ticks, and the state of the row as it is now: the proposer was late if `outcomes` is NULL.
-- A row that somebody else holds is left to him; a tick that the database's clock has not reached is left for later.
CREATE FUNCTION jobqueue.fire_ticks(proposals jsonb)
    RETURNS TABLE (schedule text, outcomes text[], current_revision bigint, current_next timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    proposal record;
    s        public.schedules;
    one      record;
    latest   timestamptz;
BEGIN
    FOR proposal IN
        SELECT * FROM jsonb_to_recordset(proposals)
            AS p (name text, revision bigint, expected timestamptz, ticks jsonb, next timestamptz) ORDER BY p.name
    LOOP
        schedule := proposal.name;
        outcomes := NULL;
        SELECT * INTO s FROM public.schedules c
            WHERE c.name = proposal.name AND c.revision = proposal.revision AND c.next_tick_at = proposal.expected
              AND c.enabled AND c.paused_at IS NULL
              AND (SELECT max((t->>'at')::timestamptz) FROM jsonb_array_elements(proposal.ticks) AS t) <= clock_timestamp()
            FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            outcomes := '{}';
            FOR one IN
                SELECT * FROM jsonb_to_recordset(proposal.ticks)
                    AS t (at timestamptz, ends timestamptz, stands_for int, missed boolean) ORDER BY t.at
            LOOP
                latest := one.at;
                IF one.missed THEN
                    INSERT INTO jobqueue.schedule_ticks (schedule, tick, state, stands_for)
                        VALUES (s.name, one.at, 'missed', one.stands_for) ON CONFLICT DO NOTHING;
                    outcomes := outcomes || 'missed'::text;
                ELSE
                    outcomes := outcomes || jobqueue.enqueue_tick(s, one.at, 'tick', NULL, one.ends, one.stands_for);
                END IF;
            END LOOP;
            UPDATE public.schedules c SET next_tick_at = proposal.next, last_tick_at = latest WHERE c.name = s.name;
        END IF;
        SELECT c.revision, c.next_tick_at INTO current_revision, current_next
            FROM public.schedules c WHERE c.name = proposal.name;
        RETURN NEXT;
    END LOOP;
END $$;

-- Runs a schedule because somebody asks. `by` http is an external cron: it asks for the tick `at`, which is the last one; while
-- that is recent it is the tick itself, later a run besides it, and two calls for one tick are one. Anybody else is a person.
-- Returns enqueued, overlapped, taken, paused, or changed (the row is no longer of that revision: look again).
CREATE FUNCTION jobqueue.call_schedule(
    schedule text, known_revision bigint, at timestamptz, ends timestamptz, by text
) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    s public.schedules;
BEGIN
    SELECT * INTO s FROM public.schedules c
        WHERE c.name = call_schedule.schedule AND c.revision = known_revision AND c.removed_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'changed';
    ELSIF by <> 'http' THEN
        RETURN jobqueue.enqueue_tick(s, clock_timestamp(), 'manual', by, ends, 1);
    ELSIF s.paused_at IS NOT NULL OR NOT s.enabled THEN
        RETURN 'paused';
    ELSIF clock_timestamp() - at <= least(interval '5 minutes', (ends - at) / 2) THEN
        RETURN jobqueue.enqueue_tick(s, at, 'tick', by, ends, 1);
    ELSIF EXISTS (SELECT FROM jobqueue.schedule_ticks t
                  WHERE t.schedule = s.name AND t.tick = at AND t.slot = 'tick' AND t.called_by = 'http') THEN
        RETURN 'taken';
    END IF;
    RETURN jobqueue.enqueue_tick(s, at, 'call', by, ends, 1);
END $$;

-- Brings the entries of a file into the table. What has not changed is not written; what the file no longer has stops.
-- Whether an entry is paused is never touched. Returns the names of what changed.
CREATE FUNCTION jobqueue.sync_schedules(entries jsonb) RETURNS SETOF text
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('jobqueue.sync_schedules', 0));
    RETURN QUERY
        INSERT INTO public.schedules AS s
            (name, cron, every_seconds, timezone, scaled, kind, payload, missed, grace_seconds, catch_up, overlap,
             jitter_seconds, max_retries, enabled, source)
        SELECT e.name, e.cron, e.every_seconds, e.timezone, e.scaled, e.kind, e.payload, e.missed, e.grace_seconds, e.catch_up,
               e.overlap, e.jitter_seconds, e.max_retries, e.enabled, 'file'
        FROM jsonb_populate_recordset(NULL::public.schedules, entries) AS e
        ORDER BY e.name
        ON CONFLICT (name) DO UPDATE SET
            cron = excluded.cron, every_seconds = excluded.every_seconds, timezone = excluded.timezone,
            scaled = excluded.scaled, kind = excluded.kind, payload = excluded.payload, missed = excluded.missed,
            grace_seconds = excluded.grace_seconds, catch_up = excluded.catch_up, overlap = excluded.overlap,
            jitter_seconds = excluded.jitter_seconds, max_retries = excluded.max_retries, enabled = excluded.enabled,
            source = 'file', removed_at = NULL
        WHERE (s.cron, s.every_seconds, s.timezone, s.scaled, s.kind, s.payload, s.missed, s.grace_seconds, s.catch_up,
               s.overlap, s.jitter_seconds, s.max_retries, s.enabled, s.source, s.removed_at IS NULL)
              IS DISTINCT FROM
              (excluded.cron, excluded.every_seconds, excluded.timezone, excluded.scaled, excluded.kind, excluded.payload,
               excluded.missed, excluded.grace_seconds, excluded.catch_up, excluded.overlap, excluded.jitter_seconds,
               excluded.max_retries, excluded.enabled, 'file', true)
        RETURNING s.name;
    RETURN QUERY
        UPDATE public.schedules AS s SET enabled = false, removed_at = now()
        WHERE s.source = 'file' AND s.removed_at IS NULL
          AND s.name <> ALL (ARRAY(SELECT e->>'name' FROM jsonb_array_elements(entries) AS e))
        RETURNING s.name;
END $$;

-- Keeps settings that were fetched in answer to the request `request`. Scaled schedules tick by the new ones from now on.
-- Returns whether anything changed.
CREATE FUNCTION jobqueue.keep_settings(request bigint, fresh jsonb) RETURNS boolean
    LANGUAGE plpgsql AS $$
DECLARE
    known jsonb;
BEGIN
    SELECT settings INTO known FROM jobqueue.backend_settings FOR NO KEY UPDATE;
    UPDATE jobqueue.backend_settings SET
        settings = fresh, fetched_at = clock_timestamp(),
        changed_at = CASE WHEN known IS DISTINCT FROM fresh THEN clock_timestamp() ELSE changed_at END,
        answered = greatest(answered, request), failures = 0, failed_at = NULL, last_error = NULL,
        not_before = clock_timestamp() + interval '1 second';
    IF known IS NOT DISTINCT FROM fresh THEN
        RETURN false;
    END IF;
    UPDATE public.schedules SET next_tick_at = NULL, revision = revision + 1 WHERE scaled;
    RETURN true;
END $$;

-- What became of a tick is noted with the outcome of its job, in the same transaction.
CREATE FUNCTION jobqueue.follow_tick() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE jobqueue.schedule_ticks t SET
        state = CASE WHEN NEW.status IN ('completed', 'failed', 'cancelled') THEN NEW.status ELSE 'enqueued' END,
        started_at = NEW.started_at, finished_at = NEW.completed_at, error_message = NEW.error_message,
        attempts = NEW.retry_count + CASE WHEN NEW.status = 'completed' THEN 1 ELSE 0 END
    WHERE t.schedule = NEW.schedule AND t.tick = NEW.tick_at AND t.slot = NEW.tick_slot;
    RETURN NULL;
END $$;
CREATE TRIGGER jobqueue_7_follow_tick AFTER UPDATE ON public.jobs FOR EACH ROW
    WHEN (NEW.schedule IS NOT NULL AND OLD.status IS DISTINCT FROM NEW.status
          AND (NEW.status IN ('completed', 'failed', 'cancelled') OR OLD.status IN ('completed', 'failed', 'cancelled')))
    EXECUTE FUNCTION jobqueue.follow_tick();
