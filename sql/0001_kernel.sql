-- The kernel: what turns a host's table into a queue.
--
-- A queue is the host's own table. jobqueue.adopt() adds the lifecycle columns, a few small indexes and a
-- handful of triggers; the worker does the rest. Everything of ours lives in the schema jobqueue.

CREATE SCHEMA IF NOT EXISTS jobqueue;

-- Positions order the jobs that are due. One is drawn each time a job becomes due, so that rows always
-- (re-)enter at the end of their lane and claims never have to look behind them.
CREATE SEQUENCE jobqueue.position AS bigint CACHE 1;

CREATE TABLE jobqueue.queues (
    name        text PRIMARY KEY,
    table_name  text NOT NULL UNIQUE,
    id_type     text NOT NULL CHECK (id_type IN ('uuid', 'bigint')),
    pending     text NOT NULL,
    processing  text NOT NULL,
    completed   text NOT NULL,
    failed      text NOT NULL,
    cancelled   text NOT NULL,
    coalesce_by text,
    adopted_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE jobqueue.queues IS 'Tables that are queues, and the words each uses for the states of a job.';

CREATE TABLE jobqueue.workers (
    name        text PRIMARY KEY,
    version     text NOT NULL,
    queues      text[] NOT NULL,
    concurrency int NOT NULL,
    in_flight   int NOT NULL DEFAULT 0,
    draining    boolean NOT NULL DEFAULT false,
    started_at  timestamptz NOT NULL DEFAULT now(),
    beat_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE jobqueue.workers IS 'Processes that are alive, for people to look at. Nothing is decided by it: leases are.';

-- A job that has lost its worker twice, or once and has one attempt left, is a suspect: it runs alone in its process,
-- so that a job which kills its worker every time cannot use up its neighbours' retries.
CREATE FUNCTION jobqueue.is_suspect(crash_count int, retry_count int, max_retries int) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN crash_count >= 2 OR (crash_count = 1 AND retry_count + 1 >= max_retries);

-- Lets a check constraint on `status_column` admit every word of `words`, keeping what it admitted before.
CREATE FUNCTION jobqueue.admit_words(target regclass, status_column name, words text[]) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    rule   record;
    word   text;
    admits boolean;
    type   text;
BEGIN
    SELECT format_type(a.atttypid, NULL) INTO type
        FROM pg_attribute a WHERE a.attrelid = target AND a.attname = status_column;
    IF type NOT IN ('text', 'character varying') THEN
        RAISE EXCEPTION '%.% is %, it must be text', target, status_column, type
            USING HINT = format('ALTER TABLE %s ALTER COLUMN %I TYPE text;', target, status_column);
    END IF;
    FOR rule IN
        SELECT c.conname, c.convalidated, pg_get_expr(c.conbin, c.conrelid) AS expression
        FROM pg_constraint c
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attname = status_column
        WHERE c.conrelid = target AND c.contype = 'c' AND c.conkey = ARRAY[a.attnum]
    LOOP
        FOREACH word IN ARRAY words LOOP
            EXECUTE format('SELECT %s FROM (SELECT %L::text AS %I) AS example', rule.expression, word, status_column)
                INTO admits;
            IF NOT coalesce(admits, true) THEN
                EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', target, rule.conname);
                EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK ((%s) OR %I = ANY (%L::text[]))%s',
                               target, rule.conname, rule.expression, status_column, words,
                               CASE WHEN rule.convalidated THEN '' ELSE ' NOT VALID' END);
                EXIT;
            END IF;
        END LOOP;
    END LOOP;
END $$;

-- Lets the role that migrates (the worker's) read and write a table that has row-level security switched on.
CREATE FUNCTION jobqueue.admit_worker(target regclass) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_class c
        WHERE c.oid = target AND c.relrowsecurity
          AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = target AND p.polname = 'jobqueue_worker')
          AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = current_user AND (r.rolsuper OR r.rolbypassrls))
    ) THEN
        EXECUTE format('CREATE POLICY jobqueue_worker ON %s TO %I USING (true) WITH CHECK (true)', target, current_user);
    END IF;
END $$;

-- The search path for a function of ours that runs with its owner's rights and whose writes fire the host's own triggers:
-- those find the tables that they find now, and nobody's temporary objects come first.
CREATE FUNCTION jobqueue.host_search_path() RETURNS text
    LANGUAGE sql STABLE
    RETURN concat_ws(', ', 'pg_catalog', nullif(nullif(current_setting('search_path'), ''), '""'), 'pg_temp');

-- Gives a table one of our indexes. It is known by its comment, not by its name: a host may have taken the name, and two
-- long names may be cut to one. An index that was made for other state words is replaced.
CREATE FUNCTION jobqueue.ensure_index(target regclass, purpose text, definition text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    mark       text := format('jobqueue: %s, %s', purpose, definition);
    ours       record;
    schema     name;
    index_name text;
BEGIN
    FOR ours IN
        SELECT i.indexrelid::regclass AS index, obj_description(i.indexrelid, 'pg_class') AS comment
        FROM pg_index i
        WHERE i.indrelid = target
          AND obj_description(i.indexrelid, 'pg_class') LIKE format('jobqueue: %s, %%', purpose)
    LOOP
        IF ours.comment = mark THEN
            RETURN;
        END IF;
        EXECUTE format('DROP INDEX %s', ours.index);
    END LOOP;
    SELECT n.nspname, c.relname || '_' || purpose INTO schema, index_name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target;
    IF octet_length(index_name) > 63 OR to_regclass(format('%I.%I', schema, index_name)) IS NOT NULL THEN
        index_name := format('jobqueue_%s_%s', target::oid, purpose);
    END IF;
    EXECUTE format('CREATE %s INDEX %I ON %s %s', CASE purpose WHEN 'coalesce' THEN 'UNIQUE' ELSE '' END,
                   index_name, target, definition);
    EXECUTE format('COMMENT ON INDEX %I.%I IS %L', schema, index_name, mark);
END $$;

-- jobqueue.adopt('schema.table'): adds what the table lacks to be a queue and leaves the rest of it alone.
-- Safe to run again: what is left out stays as it was. Returns the queue's name, which is the table's (with its schema
-- where that name is taken).
--   pending .. cancelled   the table's own words for the states; by default those names
--   coalesce_by            a column: of two pending jobs with the same value in it, the second becomes the first
CREATE FUNCTION jobqueue.adopt(
    target      text,
    pending     text DEFAULT NULL,
    processing  text DEFAULT NULL,
    completed   text DEFAULT NULL,
    failed      text DEFAULT NULL,
    cancelled   text DEFAULT NULL,
    coalesce_by text DEFAULT NULL
) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    rel        regclass := to_regclass(target);
    relname    name;
    qualified  text;
    queue      text;
    label      text;
    id_type    text;
    wanted     record;
    known      jobqueue.queues;
    found_type text;
    longest    int;
    words      text[];
    declared   text;
BEGIN
    -- One at a time: two that replace the same functions would fail over each other.
    PERFORM pg_advisory_xact_lock(hashtextextended('jobqueue.adopt', 0));
    IF rel IS NULL THEN
        RAISE EXCEPTION 'jobqueue.adopt: there is no table %', target
            USING HINT = 'Create the table first, or write its schema: jobqueue.adopt(''schema.table'').';
    END IF;
    SELECT c.relname, format('%I.%I', n.nspname, c.relname) INTO relname, qualified
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = rel AND c.relkind IN ('r', 'p');
    IF qualified IS NULL THEN
        RAISE EXCEPTION 'jobqueue.adopt: % is not a table', target;
    END IF;
    SELECT * INTO known FROM jobqueue.queues q WHERE q.table_name = qualified;
    queue := coalesce(
        known.name,
        CASE WHEN EXISTS (SELECT FROM jobqueue.queues q WHERE q.name = relname) THEN qualified ELSE relname END);
    pending := coalesce(pending, known.pending, 'pending');
    processing := coalesce(processing, known.processing, 'processing');
    completed := coalesce(completed, known.completed, 'completed');
    failed := coalesce(failed, known.failed, 'failed');
    cancelled := coalesce(cancelled, known.cancelled, 'cancelled');
    coalesce_by := coalesce(coalesce_by, known.coalesce_by);
    words := ARRAY[pending, processing, completed, failed, cancelled];
    IF (SELECT count(DISTINCT word) FROM unnest(words) AS word) < 5 THEN
        RAISE EXCEPTION 'jobqueue.adopt: the five states of % need five different words', target;
    END IF;
    -- What our functions for this table are called: "enter publish_jobs". A name that would be cut could be another's.
    label := CASE WHEN octet_length(queue) <= 50 THEN queue ELSE rel::oid::text END;

    -- The primary key.
    SELECT format_type(a.atttypid, NULL) INTO id_type
        FROM pg_attribute a WHERE a.attrelid = rel AND a.attname = 'id' AND NOT a.attisdropped;
    IF id_type IS NULL THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN id bigint GENERATED BY DEFAULT AS IDENTITY', qualified);
        EXECUTE format('ALTER TABLE %s ADD %s (id)', qualified,
                       CASE WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = rel AND i.indisprimary)
                            THEN 'UNIQUE' ELSE 'PRIMARY KEY' END);
        id_type := 'bigint';
    ELSIF id_type NOT IN ('uuid', 'bigint', 'integer') THEN
        RAISE EXCEPTION 'jobqueue.adopt: %.id is %, it must be uuid or bigint', qualified, id_type;
    ELSIF NOT EXISTS (
        SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = rel AND a.attname = 'id'
        WHERE i.indrelid = rel AND i.indisunique AND i.indpred IS NULL
          AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum
    ) THEN
        RAISE EXCEPTION 'jobqueue.adopt: %.id is not unique', qualified
            USING HINT = format('ALTER TABLE %s ADD PRIMARY KEY (id);', qualified);
    END IF;
    id_type := replace(id_type, 'integer', 'bigint');

    -- The lifecycle columns. `accepts` lists the types under which a host may already have the column.
    FOR wanted IN
        SELECT * FROM (VALUES
            ('status',           'text',        format('NOT NULL DEFAULT %L', pending), '{text,character varying}'),
            ('priority',         'int',         'NOT NULL DEFAULT 5',         '{smallint,integer,bigint}'),
            ('run_after',        'timestamptz', 'NOT NULL DEFAULT now()',     '{timestamp with time zone}'),
            ('retry_count',      'int',         'NOT NULL DEFAULT 0',         '{smallint,integer,bigint}'),
            ('max_retries',      'int',         'NOT NULL DEFAULT 5',         '{smallint,integer,bigint}'),
            ('error_message',    'text',        '',                           '{text,character varying}'),
            ('lease_token',      'uuid',        '',                           '{uuid}'),
            ('lease_expires_at', 'timestamptz', '',                           '{timestamp with time zone}'),
            ('locked_by',        'text',        '',                           '{text,character varying}'),
            ('started_at',       'timestamptz', '',                           '{timestamp with time zone,timestamp without time zone}'),
            ('completed_at',     'timestamptz', '',                           '{timestamp with time zone,timestamp without time zone}'),
            ('created_at',       'timestamptz', 'DEFAULT now()',              '{timestamp with time zone,timestamp without time zone}'),
            ('updated_at',       'timestamptz', 'DEFAULT now()',              '{timestamp with time zone,timestamp without time zone}'),
            ('position',         'bigint',      '',                           '{bigint}'),
            ('crash_count',      'int',         'NOT NULL DEFAULT 0',         '{smallint,integer,bigint}')
        ) AS c (name, type, rest, accepts)
    LOOP
        SELECT format_type(a.atttypid, NULL), pg_get_expr(d.adbin, d.adrelid), nullif(a.atttypmod, -1) - 4
            INTO found_type, declared, longest
            FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = rel AND a.attname = wanted.name AND NOT a.attisdropped;
        IF found_type IS NULL THEN
            EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s %s', qualified, wanted.name, wanted.type, wanted.rest);
        ELSIF found_type <> ALL (wanted.accepts::text[]) THEN
            RAISE EXCEPTION 'jobqueue.adopt: %.% is %, it must be %', qualified, wanted.name, found_type, wanted.type
                USING HINT = format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %I::%s;',
                                    qualified, wanted.name, wanted.type, wanted.name,
                                    CASE wanted.type WHEN 'text' THEN 'text' ELSE 'text::' || wanted.type END);
        ELSIF declared IS NULL AND wanted.rest LIKE '%DEFAULT%' THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s',
                           qualified, wanted.name, substring(wanted.rest FROM 'DEFAULT (.*)$'));
        END IF;
        -- Room for what the worker writes: a value that does not fit would be refused again and again.
        IF found_type = 'character varying'
           AND longest < (SELECT max(CASE wanted.name WHEN 'status' THEN length(word) ELSE 4000 END) FROM unnest(words) AS word)
        THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE text', qualified, wanted.name);
        END IF;
    END LOOP;
    PERFORM jobqueue.admit_words(rel, 'status', words);
    PERFORM jobqueue.admit_worker(rel);

    -- Jobs enter (become pending): defaults for what a host left NULL, no lease, and a position if they are due.
    EXECUTE format($ddl$
        CREATE OR REPLACE FUNCTION jobqueue.%I() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
        BEGIN
            NEW.status := %L;
            NEW.priority := coalesce(NEW.priority, 5);
            NEW.run_after := coalesce(NEW.run_after, now());
            NEW.retry_count := coalesce(NEW.retry_count, 0);
            NEW.max_retries := coalesce(NEW.max_retries, 5);
            NEW.crash_count := coalesce(NEW.crash_count, 0);
            NEW.lease_token := NULL;
            NEW.lease_expires_at := NULL;
            NEW.locked_by := NULL;
            NEW.completed_at := NULL;
            IF TG_OP = 'UPDATE' AND OLD.status NOT IN (%L, %L) THEN
                NEW.crash_count := 0;
            END IF;
            NEW.position := NULL;
            IF NEW.run_after <= clock_timestamp()
               AND NOT jobqueue.is_suspect(NEW.crash_count::int, NEW.retry_count::int, NEW.max_retries::int) THEN
                -- A transaction takes its number before it draws a position: that is what lets a claimer tell
                -- when every position below a given one has been committed or given up.
                PERFORM pg_current_xact_id();
                NEW.position := nextval('jobqueue.position');
            END IF;
            RETURN NEW;
        END $fn$ $ddl$, 'enter ' || label, pending, pending, processing);
    EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_3_enter_insert ON %s', qualified);
    EXECUTE format('CREATE TRIGGER jobqueue_3_enter_insert BEFORE INSERT ON %s FOR EACH ROW
                    WHEN (NEW.status IS NULL OR NEW.status = %L) EXECUTE FUNCTION jobqueue.%I()',
                   qualified, pending, 'enter ' || label);
    EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_3_enter_update ON %s', qualified);
    EXECUTE format('CREATE TRIGGER jobqueue_3_enter_update BEFORE UPDATE ON %s FOR EACH ROW
                    WHEN (NEW.status = %L AND (OLD.status IS DISTINCT FROM NEW.status
                                               OR OLD.run_after IS DISTINCT FROM NEW.run_after
                                               OR OLD.priority IS DISTINCT FROM NEW.priority))
                    EXECUTE FUNCTION jobqueue.%I()', qualified, pending, 'enter ' || label);

    -- Raising max_retries revives what had failed.
    EXECUTE format($ddl$
        CREATE OR REPLACE FUNCTION jobqueue.%I() RETURNS trigger LANGUAGE plpgsql AS $fn$
        BEGIN
            NEW.status := %L;
            NEW.run_after := now();
            RETURN NEW;
        END $fn$ $ddl$, 'revive ' || label, pending);
    EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_1_revive ON %s', qualified);
    EXECUTE format('CREATE TRIGGER jobqueue_1_revive BEFORE UPDATE OF max_retries ON %s FOR EACH ROW
                    WHEN (OLD.status = %L AND NEW.status = OLD.status AND NEW.max_retries > NEW.retry_count)
                    EXECUTE FUNCTION jobqueue.%I()', qualified, failed, 'revive ' || label);

    -- A state set by anyone but the holder of the lease takes the lease away: the holder can change nothing any more.
    -- (The holder's own statements always give lease_expires_at up, and set completed_at.) So does a word of the host's own.
    EXECUTE format($ddl$
        CREATE OR REPLACE FUNCTION jobqueue.%I() RETURNS trigger LANGUAGE plpgsql AS $fn$
        BEGIN
            IF NEW.status IN (%L, %L, %L) THEN
                NEW.completed_at := coalesce(NEW.completed_at, now());
            END IF;
            NEW.lease_token := NULL;
            NEW.lease_expires_at := NULL;
            NEW.locked_by := NULL;
            RETURN NEW;
        END $fn$ $ddl$, 'end ' || label, completed, failed, cancelled);
    EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_4_end ON %s', qualified);
    EXECUTE format('CREATE TRIGGER jobqueue_4_end BEFORE UPDATE ON %s FOR EACH ROW
                    WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IS DISTINCT FROM %L
                          AND ((NEW.completed_at IS NULL AND NEW.status IN (%L, %L, %L))
                               OR (OLD.status = %L AND NEW.lease_expires_at IS NOT DISTINCT FROM OLD.lease_expires_at)))
                    EXECUTE FUNCTION jobqueue.%I()',
                   qualified, pending, completed, failed, cancelled, processing, 'end ' || label);

    -- Wake-ups are hints, one a statement: `due` for claimers, `revoked` for the holder of a lease taken away.
    EXECUTE format($ddl$
        CREATE OR REPLACE FUNCTION jobqueue.%I() RETURNS trigger LANGUAGE plpgsql AS $fn$
        BEGIN
            PERFORM pg_notify('jobqueue', TG_ARGV[0] || ' ' || %L);
            RETURN NULL;
        END $fn$ $ddl$, 'wake ' || label, queue);
    EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_5_wake_insert ON %s', qualified);
    EXECUTE format('CREATE TRIGGER jobqueue_5_wake_insert AFTER INSERT ON %s FOR EACH STATEMENT
                    EXECUTE FUNCTION jobqueue.%I(''due'')', qualified, 'wake ' || label);
    EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_5_wake_update ON %s', qualified);
    EXECUTE format('CREATE TRIGGER jobqueue_5_wake_update AFTER UPDATE ON %s FOR EACH ROW
                    WHEN (NEW.status = %L AND NEW.position IS NOT NULL AND OLD.position IS DISTINCT FROM NEW.position)
                    EXECUTE FUNCTION jobqueue.%I(''due'')', qualified, pending, 'wake ' || label);
    EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_5_wake_revoked ON %s', qualified);
    EXECUTE format('CREATE TRIGGER jobqueue_5_wake_revoked AFTER UPDATE ON %s FOR EACH ROW
                    WHEN (OLD.status = %L AND NEW.status IS DISTINCT FROM OLD.status
                          AND OLD.lease_token IS NOT NULL AND NEW.lease_token IS NULL)
                    EXECUTE FUNCTION jobqueue.%I(''revoked'')', qualified, processing, 'wake ' || label);

    -- Of two pending jobs with one value in `coalesce_by`, the second becomes the first.
    IF coalesce_by IS NOT NULL THEN
        EXECUTE format('WITH twin AS (
                            SELECT id, row_number() OVER (PARTITION BY %1$I ORDER BY priority DESC, run_after, id) AS n
                            FROM %2$s WHERE status = %3$L AND %1$I IS NOT NULL)
                        UPDATE %2$s AS t SET status = %4$L, completed_at = now(),
                               error_message = ''coalesced into another pending job for the same '' || %1$L
                        FROM twin WHERE twin.id = t.id AND twin.n > 1',
                       coalesce_by, qualified, pending, cancelled);
        PERFORM jobqueue.ensure_index(rel, 'coalesce', format('(%I) WHERE status = %L', coalesce_by, pending));
        -- The lock makes two transactions that insert twins at the same time wait for each other instead of colliding
        -- on the unique index: the second then finds the first's row. That row is locked until the second commits, so that
        -- it is not run before what the second wrote for it can be seen.
        EXECUTE format($ddl$
            CREATE OR REPLACE FUNCTION jobqueue.%1$I() RETURNS trigger
                LANGUAGE plpgsql SECURITY DEFINER SET search_path = %7$s AS $fn$
            DECLARE
                twin %2$s.id%%TYPE;
            BEGIN
                PERFORM pg_advisory_xact_lock(hashtextextended(%3$L || NEW.%4$I::text, 0));
                IF TG_OP = 'INSERT' THEN
                    UPDATE %2$s AS t
                        SET priority = greatest(t.priority, coalesce(NEW.priority, 5)),
                            run_after = least(t.run_after, coalesce(NEW.run_after, now()))
                        WHERE t.status = %5$L AND t.%4$I = NEW.%4$I
                          AND (coalesce(NEW.priority, 5) > t.priority OR coalesce(NEW.run_after, now()) < t.run_after);
                    IF FOUND THEN
                        RETURN NULL;
                    END IF;
                END IF;
                SELECT t.id INTO twin FROM %2$s AS t WHERE t.status = %5$L AND t.%4$I = NEW.%4$I AND t.id <> NEW.id
                    FOR NO KEY UPDATE;
                IF NOT FOUND THEN
                    RETURN NEW;
                ELSIF TG_OP = 'INSERT' THEN
                    RETURN NULL;
                END IF;
                NEW.status := %6$L;
                NEW.completed_at := now();
                NEW.lease_token := NULL;
                NEW.lease_expires_at := NULL;
                NEW.locked_by := NULL;
                NEW.error_message := 'coalesced into job ' || twin || ', which was already pending for the same %4$s'
                    || coalesce('; last error: ' || NEW.error_message, '');
                RETURN NEW;
            END $fn$ $ddl$,
            'coalesce ' || label, qualified, queue || ':', coalesce_by, pending, cancelled,
            jobqueue.host_search_path());
        EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_2_coalesce_insert ON %s', qualified);
        EXECUTE format('CREATE TRIGGER jobqueue_2_coalesce_insert BEFORE INSERT ON %s FOR EACH ROW
                        WHEN ((NEW.status IS NULL OR NEW.status = %L) AND NEW.%I IS NOT NULL)
                        EXECUTE FUNCTION jobqueue.%I()',
                       qualified, pending, coalesce_by, 'coalesce ' || label);
        EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_2_coalesce_update ON %s', qualified);
        EXECUTE format('CREATE TRIGGER jobqueue_2_coalesce_update BEFORE UPDATE ON %s FOR EACH ROW
                        WHEN (NEW.status = %L AND OLD.status IS DISTINCT FROM NEW.status AND NEW.%I IS NOT NULL)
                        EXECUTE FUNCTION jobqueue.%I()', qualified, pending, coalesce_by, 'coalesce ' || label);
    END IF;

    -- Rows that were there before: fill what is NULL, and let the triggers give the pending ones their positions.
    EXECUTE format('UPDATE %s SET priority = coalesce(priority, 5), run_after = coalesce(run_after, now()),
                           retry_count = coalesce(retry_count, 0), max_retries = coalesce(max_retries, 5)
                    WHERE status IN (%L, %L, %L)
                      AND (priority IS NULL OR run_after IS NULL OR retry_count IS NULL OR max_retries IS NULL)',
                   qualified, pending, processing, failed);
    EXECUTE format('UPDATE %1$s AS t SET position = due.position
                    FROM (SELECT id, nextval(''jobqueue.position'') AS position
                          FROM (SELECT id FROM %1$s WHERE status = %2$L AND position IS NULL AND run_after <= now()
                                AND NOT jobqueue.is_suspect(crash_count::int, retry_count::int, max_retries::int)
                                ORDER BY priority DESC, created_at, id) AS in_order) AS due
                    WHERE t.id = due.id', qualified, pending);

    PERFORM jobqueue.ensure_index(rel, 'claim', format('(priority, position) WHERE status = %L AND position IS NOT NULL', pending));
    PERFORM jobqueue.ensure_index(rel, 'delayed', format('(run_after) WHERE status = %L AND position IS NULL', pending));
    PERFORM jobqueue.ensure_index(rel, 'suspect', format('(run_after) WHERE status = %L AND position IS NULL AND crash_count > 0', pending));
    PERFORM jobqueue.ensure_index(rel, 'lease', format('(lease_expires_at) WHERE status = %L', processing));
    PERFORM jobqueue.ensure_index(rel, 'failed', format('(completed_at) WHERE status = %L', failed));

    INSERT INTO jobqueue.queues AS q
        (name, table_name, id_type, pending, processing, completed, failed, cancelled, coalesce_by)
        VALUES (queue, qualified, id_type, pending, processing, completed, failed, cancelled, coalesce_by)
        ON CONFLICT (name) DO UPDATE SET
            id_type = excluded.id_type, pending = excluded.pending, processing = excluded.processing,
            completed = excluded.completed, failed = excluded.failed, cancelled = excluded.cancelled,
            coalesce_by = excluded.coalesce_by;
    RETURN queue;
END $$;
