-- Events: what happens on the platform, the notifications it makes, and the webhooks it is told to.
-- All of these tables may exist already, with fewer columns and with rows: they are completed in place.

CREATE TABLE IF NOT EXISTS public.platform_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
ALTER TABLE public.platform_events
    ADD COLUMN IF NOT EXISTS app_id         text,
    ADD COLUMN IF NOT EXISTS user_id        text,
    ADD COLUMN IF NOT EXISTS event_category text,
    ADD COLUMN IF NOT EXISTS event_type     text,
    ADD COLUMN IF NOT EXISTS entity_type    text,
    ADD COLUMN IF NOT EXISTS entity_id      text,
    ADD COLUMN IF NOT EXISTS event_data     jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS created_at     timestamptz DEFAULT now();
SELECT jobqueue.admit_worker('public.platform_events');
-- Archival takes the oldest first and never looks at the rest.
CREATE INDEX IF NOT EXISTS platform_events_age ON public.platform_events (created_at, id);

CREATE TABLE IF NOT EXISTS public.platform_notifications (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
ALTER TABLE public.platform_notifications
    ADD COLUMN IF NOT EXISTS app_id      text,
    ADD COLUMN IF NOT EXISTS external_id text,
    ADD COLUMN IF NOT EXISTS user_id     text,
    ADD COLUMN IF NOT EXISTS title       text,
    ADD COLUMN IF NOT EXISTS body        text,
    ADD COLUMN IF NOT EXISTS priority    text DEFAULT 'normal',
    ADD COLUMN IF NOT EXISTS expires_at  timestamptz,
    ADD COLUMN IF NOT EXISTS created_at  timestamptz DEFAULT now();
SELECT jobqueue.admit_worker('public.platform_notifications');
CREATE INDEX IF NOT EXISTS platform_notifications_age ON public.platform_notifications (created_at, id);

CREATE TABLE IF NOT EXISTS public.app_webhooks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid()
) WITH (fillfactor = 50);
ALTER TABLE public.app_webhooks
    ADD COLUMN IF NOT EXISTS app_id               text,
    ADD COLUMN IF NOT EXISTS webhook_url          text,
    ADD COLUMN IF NOT EXISTS webhook_secret       text DEFAULT 'whsec_'
        || encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'base64'),
    ADD COLUMN IF NOT EXISTS subscribed_events    text[] DEFAULT '{*}',
    ADD COLUMN IF NOT EXISTS is_active            boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS consecutive_failures int NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS total_deliveries     bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS total_failures       bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS last_success_at      timestamptz,
    ADD COLUMN IF NOT EXISTS last_failure_at      timestamptz,
    ADD COLUMN IF NOT EXISTS disabled_reason      text,
    ADD COLUMN IF NOT EXISTS created_at           timestamptz DEFAULT now(),
    ADD COLUMN IF NOT EXISTS updated_at           timestamptz DEFAULT now();
SELECT jobqueue.admit_worker('public.app_webhooks');
COMMENT ON COLUMN public.app_webhooks.webhook_secret IS
    'What signs each delivery: whsec_ and base64, or any other text as it is. Two values, separated by a comma, while it is rotated.';
COMMENT ON COLUMN public.app_webhooks.total_deliveries IS 'Attempts that were made; total_failures are those of them that failed.';

-- How often a delivery is tried when its row does not say: MAX_WEBHOOK_RETRIES of the worker that started last.
CREATE TABLE jobqueue.webhook_limits (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    max_retries int NOT NULL
);
INSERT INTO jobqueue.webhook_limits (max_retries) VALUES (5);
CREATE FUNCTION jobqueue.webhook_retries() RETURNS int
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'SELECT max_retries FROM jobqueue.webhook_limits';

-- A host's tables may have keys of another type than ours would: what refers to them takes theirs. Nothing here has a foreign
-- key: a host's transaction that holds a webhook's row must not stop an event from being written, and a delivery, which holds
-- all that is sent, outlives its event.
DO $$
DECLARE
    event_key        text;
    webhook_key      text;
    notification_key text;
BEGIN
    SELECT max(format_type(a.atttypid, a.atttypmod)) FILTER (WHERE a.attrelid = 'public.platform_events'::regclass),
           max(format_type(a.atttypid, a.atttypmod)) FILTER (WHERE a.attrelid = 'public.app_webhooks'::regclass),
           max(format_type(a.atttypid, a.atttypmod)) FILTER (WHERE a.attrelid = 'public.platform_notifications'::regclass)
        INTO event_key, webhook_key, notification_key
        FROM pg_attribute a WHERE a.attname = 'id' AND NOT a.attisdropped
         AND a.attrelid IN ('public.platform_events'::regclass, 'public.app_webhooks'::regclass,
                            'public.platform_notifications'::regclass);
    EXECUTE format('CREATE TABLE IF NOT EXISTS public.notification_state (
                        notification_id %1$s NOT NULL REFERENCES public.platform_notifications (id) ON DELETE CASCADE,
                        user_id text NOT NULL,
                        PRIMARY KEY (notification_id, user_id)
                    ) WITH (fillfactor = 80)', notification_key);
    EXECUTE format('ALTER TABLE public.notification_state ADD COLUMN IF NOT EXISTS notification_id %1$s', notification_key);
    EXECUTE format('CREATE TABLE IF NOT EXISTS public.webhook_deliveries (
                        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), webhook_id %s NOT NULL) WITH (fillfactor = 80)',
                   webhook_key);
    EXECUTE format('ALTER TABLE public.webhook_deliveries
                        ADD COLUMN IF NOT EXISTS webhook_id %s, ADD COLUMN IF NOT EXISTS event_id %s',
                   webhook_key, event_key);
    EXECUTE format('CREATE TABLE jobqueue.webhook_attempts (
                        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                        webhook_id %s NOT NULL,
                        succeeded  boolean NOT NULL,
                        reason     text,
                        ended_at   timestamptz NOT NULL DEFAULT clock_timestamp())', webhook_key);
END $$;

ALTER TABLE public.notification_state
    ADD COLUMN IF NOT EXISTS user_id      text,
    ADD COLUMN IF NOT EXISTS status       text NOT NULL DEFAULT 'unread',
    ADD COLUMN IF NOT EXISTS unread_at    timestamptz DEFAULT now(),
    ADD COLUMN IF NOT EXISTS read_at      timestamptz,
    ADD COLUMN IF NOT EXISTS dismissed_at timestamptz,
    ADD COLUMN IF NOT EXISTS clicked_at   timestamptz,
    ADD COLUMN IF NOT EXISTS expired_at   timestamptz;
SELECT jobqueue.admit_words('public.notification_state', 'status', '{unread,read,dismissed,clicked,expired}');
SELECT jobqueue.admit_worker('public.notification_state');
CREATE INDEX IF NOT EXISTS notification_state_notification ON public.notification_state (notification_id);

ALTER TABLE public.webhook_deliveries
    ADD COLUMN IF NOT EXISTS event_type       text,
    ADD COLUMN IF NOT EXISTS payload          jsonb,
    ADD COLUMN IF NOT EXISTS status_code      int,
    ADD COLUMN IF NOT EXISTS response_body    text,
    ADD COLUMN IF NOT EXISTS response_time_ms int,
    ADD COLUMN IF NOT EXISTS max_retries      int NOT NULL DEFAULT jobqueue.webhook_retries();
SELECT jobqueue.adopt('public.webhook_deliveries');
CREATE INDEX IF NOT EXISTS webhook_deliveries_history ON public.webhook_deliveries (webhook_id, created_at);
CREATE INDEX IF NOT EXISTS webhook_deliveries_put_off ON public.webhook_deliveries (webhook_id, run_after)
    WHERE status = 'pending' AND position IS NULL;

COMMENT ON TABLE jobqueue.webhook_attempts IS
    'Attempts that app_webhooks does not count yet. Each is written with its delivery, and about once a second they are added up: '
    'deliveries of one webhook that end at the same time do not wait for each other.';
SELECT jobqueue.admit_worker('jobqueue.webhook_attempts');
CREATE INDEX webhook_attempts_webhook ON jobqueue.webhook_attempts (webhook_id, id);

-- What a receiver is sent for an event.
CREATE FUNCTION jobqueue.event_payload(event public.platform_events) RETURNS jsonb
    LANGUAGE sql STABLE
    RETURN jsonb_build_object(
        'id', event.id,
        'type', event.event_type,
        'timestamp', to_char(coalesce(event.created_at, now())::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'category', event.event_category,
        'app_id', event.app_id,
        'user_id', event.user_id,
        'entity_type', event.entity_type,
        'entity_id', event.entity_id,
        'data', event.event_data);

-- Whether any of the patterns, in which * stands for anything, is the event's type. A type without a dot is also known by its
-- category: `created` in the category `user` is user.created.
CREATE FUNCTION jobqueue.event_matches(patterns text[], category text, type text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN EXISTS (
        SELECT FROM unnest(patterns) AS pattern
        CROSS JOIN LATERAL (
            SELECT replace(replace(replace(replace(trim(pattern), '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')) AS p (glob)
        WHERE coalesce(type, '') LIKE p.glob
           OR (type NOT LIKE '%.%' AND category || '.' || type LIKE p.glob));

-- Fan-out: one delivery for each active webhook that subscribed to the event, in the transaction that wrote the event.
-- A webhook of one app is told nothing of another's; an event or a webhook without an app belongs to all.
DO $$
DECLARE
    wanted record;
BEGIN
    -- What does not fit would stop the host's inserts, event by event: it stops this migration instead.
    FOR wanted IN
        SELECT format_type(r.atttypid, NULL) AS found, format_type(k.atttypid, NULL) AS type, r.attname AS name
        FROM (VALUES ('webhook_id', 'public.app_webhooks'), ('event_id', 'public.platform_events')) AS c (name, target)
        JOIN pg_attribute r ON r.attrelid = 'public.webhook_deliveries'::regclass AND r.attname = c.name
        JOIN pg_attribute k ON k.attrelid = c.target::regclass AND k.attname = 'id'
        WHERE r.atttypid <> k.atttypid
    LOOP
        RAISE EXCEPTION 'webhook_deliveries.% is %, what it refers to is %', wanted.name, wanted.found, wanted.type
            USING HINT = format('ALTER TABLE webhook_deliveries ALTER COLUMN %I TYPE %s USING %I::text::%s;',
                                wanted.name, wanted.type, wanted.name, wanted.type);
    END LOOP;
    EXECUTE format($ddl$
        CREATE FUNCTION jobqueue.fan_out() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = %s AS $fn$
        BEGIN
            INSERT INTO public.webhook_deliveries (webhook_id, event_id, event_type, payload)
            SELECT w.id, e.id, e.event_type, jobqueue.event_payload(e)
            FROM fresh
            JOIN public.platform_events AS e ON e.id = fresh.id
            JOIN public.app_webhooks AS w
                ON w.is_active
               AND (w.app_id IS NULL OR e.app_id IS NULL OR w.app_id::text = e.app_id::text)
               AND jobqueue.event_matches(w.subscribed_events::text[], e.event_category::text, e.event_type::text);
            RETURN NULL;
        END $fn$ $ddl$, jobqueue.host_search_path());
END $$;
CREATE TRIGGER jobqueue_1_fan_out AFTER INSERT ON public.platform_events
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION jobqueue.fan_out();

-- A webhook that is switched on again begins anew.
CREATE FUNCTION jobqueue.reset_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.consecutive_failures := 0;
    NEW.disabled_reason := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER jobqueue_1_reset BEFORE UPDATE OF is_active ON public.app_webhooks FOR EACH ROW
    WHEN (NEW.is_active AND OLD.is_active IS NOT TRUE) EXECUTE FUNCTION jobqueue.reset_webhook();

-- Adds attempts up into app_webhooks, and disables a webhook with `most` failures in a row. Returns how many were added.
-- One at a time; a webhook that somebody else holds locked is left for later, and nobody waits.
CREATE FUNCTION jobqueue.tally_webhooks(most int) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    counted bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('jobqueue.tally_webhooks', 0)) THEN
        RETURN 0;
    END IF;
    WITH held AS MATERIALIZED (
        SELECT w.id FROM public.app_webhooks AS w
        WHERE EXISTS (SELECT FROM jobqueue.webhook_attempts AS a WHERE a.webhook_id = w.id)
        FOR NO KEY UPDATE SKIP LOCKED
    ), taken AS (
        DELETE FROM jobqueue.webhook_attempts AS a USING held WHERE a.webhook_id = held.id RETURNING a.*
    ), ordered AS (
        SELECT t.*, max(t.id) FILTER (WHERE t.succeeded) OVER (PARTITION BY t.webhook_id) AS last_success FROM taken AS t
    ), sums AS (
        SELECT o.webhook_id,
               count(*) AS attempts,
               count(*) FILTER (WHERE NOT o.succeeded) AS failures,
               count(*) FILTER (WHERE NOT o.succeeded AND (o.last_success IS NULL OR o.id > o.last_success)) AS in_a_row,
               bool_or(o.succeeded) AS any_success,
               max(o.ended_at) FILTER (WHERE o.succeeded) AS last_success_at,
               max(o.ended_at) FILTER (WHERE NOT o.succeeded) AS last_failure_at,
               (array_agg(o.reason ORDER BY o.id DESC) FILTER (WHERE NOT o.succeeded))[1] AS reason
        FROM ordered AS o GROUP BY o.webhook_id
    ), added AS (
        UPDATE public.app_webhooks AS w SET
            total_deliveries = coalesce(w.total_deliveries, 0) + s.attempts,
            total_failures = coalesce(w.total_failures, 0) + s.failures,
            last_success_at = greatest(w.last_success_at, s.last_success_at),
            last_failure_at = greatest(w.last_failure_at, s.last_failure_at),
            consecutive_failures = n.failures,
            is_active = w.is_active AND n.failures < most,
            disabled_reason = CASE WHEN w.is_active AND n.failures >= most
                THEN format('%s deliveries in a row failed, the last because %s', n.failures, s.reason)
                ELSE w.disabled_reason END,
            updated_at = now()
        FROM sums AS s,
             LATERAL (SELECT s.in_a_row + CASE WHEN s.any_success THEN 0 ELSE (
                 SELECT coalesce(b.consecutive_failures, 0) FROM public.app_webhooks AS b WHERE b.id = s.webhook_id) END) AS n (failures)
        WHERE w.id = s.webhook_id
        RETURNING s.attempts)
    SELECT coalesce(sum(attempts), 0) INTO counted FROM added;
    DELETE FROM jobqueue.webhook_attempts AS a
        WHERE NOT EXISTS (SELECT FROM public.app_webhooks AS w WHERE w.id = a.webhook_id);
    RETURN counted;
END $$;

-- Ends deliveries that were put off, or wait for another attempt, and whose webhook has been disabled meanwhile; at most 1,000
-- a webhook. (Those that are due end when their turn comes.) Returns how many.
CREATE FUNCTION jobqueue.cancel_deliveries() RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    ended bigint;
BEGIN
    UPDATE public.webhook_deliveries AS d
        SET status = 'cancelled', completed_at = clock_timestamp(), updated_at = clock_timestamp(), lease_expires_at = NULL,
            error_message = 'the webhook is disabled: ' || coalesce(w.disabled_reason, 'is_active is false')
        FROM public.app_webhooks AS w
        WHERE w.id = d.webhook_id AND d.id = ANY (ARRAY(
            SELECT l.id FROM public.app_webhooks AS o
            CROSS JOIN LATERAL (
                SELECT p.id FROM public.webhook_deliveries AS p
                WHERE p.webhook_id = o.id AND p.status = 'pending' AND p.position IS NULL
                LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED) AS l
            WHERE NOT o.is_active));
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END $$;

-- Notes how often a delivery is tried when its row does not say. Those that wait with the limit that held before get the new
-- one, at most 10,000 of them.
CREATE FUNCTION jobqueue.limit_deliveries(most int) RETURNS void
    LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
    before int;
BEGIN
    SELECT l.max_retries INTO before FROM jobqueue.webhook_limits AS l;
    IF before = most THEN
        RETURN;
    END IF;
    UPDATE jobqueue.webhook_limits SET max_retries = most;
    UPDATE public.webhook_deliveries SET max_retries = most
        WHERE id = ANY (ARRAY(
            SELECT d.id FROM public.webhook_deliveries AS d
            WHERE d.status IN ('pending', 'processing') AND d.max_retries = before
            ORDER BY d.id LIMIT 10000 FOR NO KEY UPDATE));
END $$;
