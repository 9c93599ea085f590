-- Expiry of notifications, and archival of events and notifications that are older than they need be.

-- Expiry: a notification that is past its expires_at is looked at until every state of it is closed, and then never again.
ALTER TABLE public.platform_notifications ADD COLUMN IF NOT EXISTS expiry_applied_at timestamptz;
COMMENT ON COLUMN public.platform_notifications.expiry_applied_at IS
    'When notification_state was told that this notification has expired. NULL until then, and again when expires_at changes.';
CREATE INDEX IF NOT EXISTS platform_notifications_to_expire ON public.platform_notifications (expires_at, id)
    WHERE expires_at IS NOT NULL AND expiry_applied_at IS NULL;
-- What a user dismissed stays dismissed; every other state gives way.
CREATE INDEX IF NOT EXISTS notification_state_open ON public.notification_state (notification_id, user_id)
    WHERE status NOT IN ('dismissed', 'expired');

CREATE FUNCTION jobqueue.renew_expiry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.expiry_applied_at := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER jobqueue_1_renew_expiry BEFORE UPDATE OF expires_at ON public.platform_notifications FOR EACH ROW
    WHEN (OLD.expires_at IS DISTINCT FROM NEW.expires_at) EXECUTE FUNCTION jobqueue.renew_expiry();

-- A state that is written late, for a notification that has expired or is about to, is looked at too. The update also makes
-- an expiry under way, which cannot see that state before it is committed, leave the notification for its next turn.
-- Plan: the primary key, once for each state.
CREATE FUNCTION jobqueue.expire_late_states() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    UPDATE public.platform_notifications AS n SET expiry_applied_at = NULL
        WHERE n.expires_at <= now() + interval '5 minutes'
          AND n.id IN (SELECT l.notification_id FROM late AS l WHERE l.status NOT IN ('dismissed', 'expired'));
    RETURN NULL;
END $$;
CREATE TRIGGER jobqueue_1_expire_late AFTER INSERT ON public.notification_state
    REFERENCING NEW TABLE AS late FOR EACH STATEMENT EXECUTE FUNCTION jobqueue.expire_late_states();

-- jobqueue.expire_notifications(batch, after_at, after_id): expires up to `batch` notifications that are due, those that
-- come after (after_at, after_id) by time of expiry (from the first on when those are NULL), and up to `batch` of their states. A notification without a state for its own
-- user gets one. What somebody holds locked is left out, and found again by a later call.
--   seen       notifications that were looked at; fewer than `batch` when there are no more
--   expired    states that became `expired`
--   again      more states of these are waiting: call again with the same after_at and after_id
--   last_at, last_id   where the next call goes on
-- Plan: the two partial indexes, whatever the statistics say.
DO $$
DECLARE
    id_type   text;
    user_type text;
    take_due  text := $sql$
                SELECT array_agg(d.id ORDER BY d.expires_at, d.id), max(d.expires_at) INTO due, last_at FROM (
                    SELECT n.id, n.expires_at FROM public.platform_notifications AS n
                    WHERE n.expires_at <= now() AND n.expiry_applied_at IS NULL AND %s
                    ORDER BY n.expires_at, n.id
                    LIMIT batch
                    FOR NO KEY UPDATE SKIP LOCKED) AS d$sql$;
BEGIN
    SELECT format_type(a.atttypid, NULL) INTO id_type FROM pg_attribute a
        WHERE a.attrelid = 'public.platform_notifications'::regclass AND a.attname = 'id' AND NOT a.attisdropped;
    SELECT format_type(a.atttypid, NULL) INTO user_type FROM pg_attribute a
        WHERE a.attrelid = 'public.notification_state'::regclass AND a.attname = 'user_id' AND NOT a.attisdropped;
    EXECUTE format('ALTER FUNCTION jobqueue.expire_late_states() SET search_path = %s', jobqueue.host_search_path());
    EXECUTE format($ddl$
        CREATE FUNCTION jobqueue.expire_notifications(batch int, after_at timestamptz, after_id %1$s)
            RETURNS TABLE (seen int, expired int, again boolean, last_at timestamptz, last_id %1$s)
            LANGUAGE plpgsql
            SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $fn$
        DECLARE
            due   %1$s[];
            added int;
        BEGIN
            IF after_id IS NULL THEN
                %3$s;
            ELSE
                %4$s;
            END IF;
            seen := coalesce(cardinality(due), 0);
            last_id := due[seen];
            WITH open AS MATERIALIZED (
                SELECT s.notification_id, s.user_id FROM public.notification_state AS s
                WHERE s.notification_id = ANY (due) AND s.status NOT IN ('dismissed', 'expired')
                LIMIT batch
                FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE public.notification_state AS s SET status = 'expired', expired_at = now()
                FROM open
                WHERE s.notification_id = open.notification_id AND s.user_id = open.user_id
                  AND s.status NOT IN ('dismissed', 'expired');
            GET DIAGNOSTICS expired = ROW_COUNT;
            again := expired >= batch;
            INSERT INTO public.notification_state (notification_id, user_id, status, expired_at)
                SELECT n.id, n.user_id::text::%2$s, 'expired', now() FROM public.platform_notifications AS n
                WHERE n.id = ANY (due) AND n.user_id IS NOT NULL
                  AND NOT EXISTS (SELECT FROM public.notification_state AS s
                                  WHERE s.notification_id = n.id AND s.user_id = n.user_id::text::%2$s)
                ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS added = ROW_COUNT;
            expired := expired + added;
            UPDATE public.platform_notifications AS n SET expiry_applied_at = now()
                WHERE n.id = ANY (due)
                  AND NOT EXISTS (SELECT FROM public.notification_state AS s
                                  WHERE s.notification_id = n.id AND s.status NOT IN ('dismissed', 'expired'));
            RETURN NEXT;
        END $fn$ $ddl$, id_type, user_type, format(take_due, 'true'),
        format(take_due, '(n.expires_at, n.id) > (after_at, after_id)'));
END $$;

-- Archival: one run at a time takes rows out of a table. Who dies in it loses the table when its lease runs out.
CREATE TABLE jobqueue.archivals (
    table_name text PRIMARY KEY,
    token      uuid,
    held_by    text,
    held_until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
INSERT INTO jobqueue.archivals (table_name) VALUES ('platform_events'), ('platform_notifications');
COMMENT ON TABLE jobqueue.archivals IS 'Who is archiving which table now, and until when nobody else may.';

CREATE TABLE jobqueue.archives (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name   text NOT NULL REFERENCES jobqueue.archivals,
    first_at     timestamptz NOT NULL,
    first_id     text NOT NULL,
    last_at      timestamptz NOT NULL,
    last_id      text NOT NULL,
    row_count    bigint NOT NULL,
    line_count   bigint NOT NULL,
    size_bytes   bigint NOT NULL,
    sha256       text NOT NULL,
    object_key   text NOT NULL,
    stale_key    text,
    sealed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    stored_at    timestamptz,
    deleted_at   timestamptz
);
COMMENT ON TABLE jobqueue.archives IS
    'What was archived, and where it lies: all rows of table_name with (created_at, id) from first to last. Recorded before the '
    'object is written, so that what a dead process left is taken up where it stopped.';
COMMENT ON COLUMN jobqueue.archives.row_count IS 'Rows of the table itself; the other lines are rows that belong to those.';
COMMENT ON COLUMN jobqueue.archives.sha256 IS 'Of the uncompressed lines, which are size_bytes long; object_key is made of it.';
COMMENT ON COLUMN jobqueue.archives.stale_key IS 'An object of rows that changed before they were deleted: to be removed.';
COMMENT ON COLUMN jobqueue.archives.stored_at IS 'When the object had been written and read back.';
COMMENT ON COLUMN jobqueue.archives.deleted_at IS 'When the rows were deleted: from then on the object is the only copy.';
CREATE INDEX archives_unfinished ON jobqueue.archives (table_name, id) WHERE deleted_at IS NULL;
CREATE INDEX archives_by_time ON jobqueue.archives (table_name, first_at);
CREATE INDEX archives_by_key ON jobqueue.archives (object_key);
