-- Coalescing without locks that outlive a look, counters that stop at the end of their type, and room for what is written.
--
-- One advisory lock a key filled the server's lock table at some ten thousand rows in one transaction, and the unique index
-- made a host's insert wait for, or fail over, another's. Neither is there any more: what one look finds becomes one, and what
-- it misses becomes one when it is claimed (docs/decisions/0008-coalescing.md).
--
-- This drops one small index of each queue that coalesces and makes another, of its pending rows only. Writers of that table
-- wait meanwhile: about a second for a million pending rows.

-- One more, as far as the type of counting goes.
CREATE FUNCTION jobqueue.one_more(n bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN n < 9223372036854775807 THEN n + 1 ELSE n END;

-- A number as the column that it is written to can hold it: `here` is what stands there now, of the column's type.
CREATE FUNCTION jobqueue.fit(here smallint, wanted bigint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN least(wanted, 32767)::smallint;
CREATE FUNCTION jobqueue.fit(here int, wanted bigint) RETURNS int
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN least(wanted, 2147483647)::int;
CREATE FUNCTION jobqueue.fit(here bigint, wanted bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN wanted;

-- Whether this attempt is the last. A count at the end of its type is.
CREATE FUNCTION jobqueue.is_last(retry_count bigint, max_retries bigint) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN jobqueue.one_more(retry_count) >= max_retries;

-- The suspects of 0001, for counts of any type. Workers of earlier versions ask the other one.
CREATE FUNCTION jobqueue.is_suspect(crash_count bigint, retry_count bigint, max_retries bigint) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN crash_count >= 2 OR (crash_count = 1 AND jobqueue.one_more(retry_count) >= max_retries);
CREATE OR REPLACE FUNCTION jobqueue.is_suspect(crash_count int, retry_count int, max_retries int) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN crash_count >= 2 OR (crash_count = 1 AND retry_count::bigint + 1 >= max_retries);

-- Gives a host's columns room for what is written to them: `columns` are pairs of a name and a type. What is wide enough, or
-- is of another kind altogether, is left as it is.
CREATE FUNCTION jobqueue.make_room(target regclass, columns text[]) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    narrow record;
BEGIN
    FOR narrow IN
        SELECT a.attname AS name, wanted.type
        FROM unnest(columns) AS pair
        CROSS JOIN LATERAL (SELECT split_part(pair, ' ', 1), split_part(pair, ' ', 2)) AS wanted (name, type)
        JOIN pg_attribute a ON a.attrelid = target AND a.attname = wanted.name AND NOT a.attisdropped
        WHERE CASE wanted.type
            WHEN 'text' THEN a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND a.atttypmod > 0
            WHEN 'bigint' THEN a.atttypid IN ('smallint'::regtype, 'int'::regtype)
            ELSE a.atttypid = 'smallint'::regtype END
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s', target, narrow.name, narrow.type);
    END LOOP;
END $$;

-- The indexes of 0009; that of twins is no longer unique, and has their predicate.
CREATE OR REPLACE FUNCTION jobqueue.ensure_index(target regclass, purpose text, definition text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    mark       text;
    ours       record;
    schema     name;
    index_name text;
BEGIN
    IF purpose IN ('claim', 'delayed', 'suspect', 'coalesce') THEN
        definition := regexp_replace(definition, $re$status = (E?'(?:[^']|'')*')$re$, '(status = \1) IS TRUE');
    END IF;
    mark := format('jobqueue: %s, %s', purpose, definition);
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
    EXECUTE format('CREATE INDEX %I ON %s %s', index_name, target, definition);
    EXECUTE format('COMMENT ON INDEX %I.%I IS %L', schema, index_name, mark);
END $$;

-- jobqueue.adopt('schema.table'): adds what the table lacks to be a queue and leaves the rest of it alone.
-- Safe to run again: what is left out stays as it was. Returns the queue's name, which is the table's (with its schema
-- where that name is taken).
--   pending .. cancelled   the table's own words for the states; by default those names
--   coalesce_by            a column: of two pending jobs with the same value in it, the second becomes the first
CREATE OR REPLACE FUNCTION jobqueue.adopt(
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
    enter      text;
    look       text;
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
    IF known.name IS NULL AND EXISTS (SELECT FROM pg_class c WHERE c.oid = rel AND c.relkind = 'p') THEN
        RAISE EXCEPTION 'jobqueue.adopt: % is partitioned, a queue must be one table', target
            USING HINT = 'Keep the jobs in a plain table and adopt that one; move those that have ended to the partitioned table.';
    END IF;
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

    -- Jobs enter (become pending): defaults for what a host left NULL, no lease, and a position if they are due. One trigger
    -- does both for an insert with a key: a second call would be a seventh of what the row costs.
    enter := format($body$NEW.status := %1$L;
            NEW.priority := coalesce(NEW.priority, 5);
            NEW.run_after := coalesce(NEW.run_after, now());
            NEW.retry_count := coalesce(NEW.retry_count, 0);
            NEW.max_retries := coalesce(NEW.max_retries, 5);
            NEW.crash_count := coalesce(NEW.crash_count, 0);
            NEW.lease_token := NULL;
            NEW.lease_expires_at := NULL;
            NEW.locked_by := NULL;
            NEW.completed_at := NULL;
            IF TG_OP = 'UPDATE' AND OLD.status NOT IN (%1$L, %2$L) THEN
                NEW.crash_count := 0;
            END IF;
            NEW.position := NULL;
            IF NEW.run_after <= clock_timestamp()
               AND NOT jobqueue.is_suspect(NEW.crash_count::bigint, NEW.retry_count::bigint, NEW.max_retries::bigint) THEN
                -- A transaction takes its number before it draws a position: that is what lets a claimer tell
                -- when every position below a given one has been committed or given up.
                PERFORM pg_current_xact_id();
                NEW.position := nextval('jobqueue.position');
            END IF;
        $body$, pending, processing);
    EXECUTE format($ddl$
        CREATE OR REPLACE FUNCTION jobqueue.%I() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
        BEGIN
            %s
            RETURN NEW;
        END $fn$ $ddl$, 'enter ' || label, enter);
    EXECUTE format('DROP TRIGGER IF EXISTS jobqueue_3_enter_insert ON %s', qualified);
    EXECUTE format('CREATE TRIGGER jobqueue_3_enter_insert BEFORE INSERT ON %s FOR EACH ROW
                    WHEN ((NEW.status IS NULL OR NEW.status = %L)%s) EXECUTE FUNCTION jobqueue.%I()',
                   qualified, pending, ' AND NEW.' || quote_ident(coalesce_by) || ' IS NULL', 'enter ' || label);
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
        -- A twin that somebody has locked is passed over: it is being claimed, or an open transaction has just become it.
        -- Nobody waits for anybody here, so nobody can deadlock, whatever the order of their rows. Twins that are pending
        -- all the same become one when one of them is claimed (kernel/sql/merge_twins.sql).
        -- A twin that is found stays locked until the commit, so that it is not run before what was written for it can be seen.
        -- One row is asked for, and no more is locked: SELECT INTO stops there. No sequential scan: a plan that was made while
        -- the table was small is kept for a statement that inserts a million rows.
        look := format('SELECT t.ctid, t.id, t.priority, t.run_after INTO twin FROM %1$s AS t
                        WHERE (t.status = %2$L) IS TRUE AND t.%3$I = NEW.%3$I AND t.id <> NEW.id
                        FOR NO KEY UPDATE SKIP LOCKED;', qualified, pending, coalesce_by);
        EXECUTE format($ddl$
            CREATE OR REPLACE FUNCTION jobqueue.%1$I() RETURNS trigger
                LANGUAGE plpgsql SECURITY DEFINER SET search_path = %6$s SET enable_seqscan = off AS $fn$
            DECLARE
                twin     record;
                has_twin boolean := false;
            BEGIN
                IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
                    BEGIN
                        %5$s
                        has_twin := FOUND;
                    EXCEPTION WHEN serialization_failure THEN
                        -- It was pending in this transaction's snapshot and has been changed since: no row to become.
                        NULL;
                    END;
                ELSE
                    %5$s
                    has_twin := FOUND;
                END IF;
                IF NOT has_twin THEN
                    IF TG_OP = 'INSERT' THEN
                        %7$s
                    END IF;
                    RETURN NEW;
                END IF;
                IF TG_OP = 'INSERT' THEN
                    IF coalesce(NEW.priority, 5) > twin.priority OR coalesce(NEW.run_after, now()) < twin.run_after THEN
                        -- The host's own triggers see this: they plan as they do elsewhere.
                        PERFORM set_config('enable_seqscan', 'on', true);
                        UPDATE %2$s AS t
                            SET priority = greatest(t.priority, coalesce(NEW.priority, 5)),
                                run_after = least(t.run_after, coalesce(NEW.run_after, now()))
                            WHERE t.ctid = twin.ctid;
                    END IF;
                    RETURN NULL;
                END IF;
                NEW.status := %4$L;
                NEW.completed_at := now();
                NEW.lease_token := NULL;
                NEW.lease_expires_at := NULL;
                NEW.locked_by := NULL;
                NEW.error_message := 'coalesced into job ' || twin.id || ', which was already pending for the same %3$I'
                    || coalesce('; last error: ' || NEW.error_message, '');
                RETURN NEW;
            END $fn$ $ddl$,
            'coalesce ' || label, qualified, coalesce_by, cancelled, look, jobqueue.host_search_path(), enter);
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
                                AND NOT jobqueue.is_suspect(crash_count::bigint, retry_count::bigint, max_retries::bigint)
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

-- auction_files.publish_status follows the job, as in 0002; and a twin that gives way leaves the file to the job that stays.
CREATE OR REPLACE FUNCTION jobqueue.follow_publish_job() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    state text := NEW.status;
BEGIN
    IF state = 'cancelled' THEN
        state := coalesce((
            SELECT j.status FROM public.publish_jobs AS j
            WHERE j.file_id = NEW.file_id AND j.id <> NEW.id AND j.status IN ('pending', 'processing')
            ORDER BY j.status = 'processing' DESC LIMIT 1), state);
    END IF;
    UPDATE public.auction_files AS f
        SET publish_status = jobqueue.publish_status(state, f.thumb_url), updated_at = now()
        WHERE f.id = (
            SELECT l.id FROM public.auction_files AS l
            WHERE l.id = NEW.file_id AND l.publish_status IS DISTINCT FROM 'deleted'
            FOR NO KEY UPDATE SKIP LOCKED)
          AND f.publish_status IS DISTINCT FROM jobqueue.publish_status(state, f.thumb_url);
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION jobqueue.follow_publish_job() SET search_path = %s', jobqueue.host_search_path());
END $$;

SELECT jobqueue.adopt(q.table_name) FROM jobqueue.queues AS q WHERE to_regclass(q.table_name) IS NOT NULL;

-- Every column of a host's that the worker or a trigger of ours writes, besides those of the lifecycle.
SELECT jobqueue.make_room('public.auction_files',
    '{publish_status text,thumb_url text,display_url text,cdn_key_prefix text,bytes bigint,width int,height int,source_key text,original_name text}');
SELECT jobqueue.make_room('public.publish_jobs', '{key_prefix text}');
SELECT jobqueue.make_room('public.project_media', '{measured_bytes bigint,measured_crc32 bigint}');
SELECT jobqueue.make_room('public.download_artifacts',
    '{storage_key text,cdn_url text,filename text,size_bytes bigint,file_count int,phase text,files_done int,files_total int,bytes_done bigint,bytes_total bigint,upload_key text,upload_id text}');
SELECT jobqueue.make_room('public.webhook_deliveries',
    '{event_type text,status_code int,response_body text,response_time_ms int}');
SELECT jobqueue.make_room('public.app_webhooks',
    '{consecutive_failures int,total_deliveries bigint,total_failures bigint,disabled_reason text}');
SELECT jobqueue.make_room('public.notification_state', '{status text,user_id text}');
SELECT jobqueue.make_room('public.jobs', '{kind text}');

-- Rows that we insert need an id, which a host that gives its own had no default for.
DO $$
DECLARE
    bare  record;
    first bigint;
BEGIN
    FOR bare IN
        SELECT a.attrelid::regclass AS target, a.atttypid = 'uuid'::regtype AS is_uuid
        FROM pg_attribute a
        WHERE a.attrelid IN ('public.webhook_deliveries'::regclass, 'public.jobs'::regclass)
          AND a.attname = 'id' AND NOT a.atthasdef AND a.attidentity = ''
    LOOP
        IF bare.is_uuid THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN id SET DEFAULT gen_random_uuid()', bare.target);
        ELSE
            EXECUTE format('SELECT coalesce(max(id), 0) + 1 FROM %s', bare.target) INTO first;
            EXECUTE format('ALTER TABLE %s ALTER COLUMN id SET NOT NULL,
                            ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (START %s)', bare.target, greatest(first, 1));
        END IF;
    END LOOP;
END $$;
