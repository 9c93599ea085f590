-- What the roles that `jobqueue roles` makes may do, and what grants it. Where none of them is, nothing happens.
--
-- The rights are rows, so that whoever adds a table adds its rights beside it. They are granted when a database is migrated, when
-- a table is adopted, and by SELECT jobqueue.grant_roles(). Every trigger of ours that reaches beyond its own row runs with its
-- owner's rights, so a host needs none in the schema jobqueue.

CREATE TABLE jobqueue.rights (
    role      text NOT NULL CHECK (role IN ('jobqueue_worker', 'jobqueue_host', 'jobqueue_reader')),
    target    text NOT NULL,
    privilege text NOT NULL CHECK (privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE')),
    columns   text[],
    all_but   text[],
    PRIMARY KEY (role, target, privilege),
    CHECK (columns IS NULL OR all_but IS NULL)
);
COMMENT ON TABLE jobqueue.rights IS 'What the roles of jobqueue may do. jobqueue.grant_roles() grants it, and takes nothing away.';
COMMENT ON COLUMN jobqueue.rights.target IS
    'A table or a sequence with its schema. adopted: each queue that is not named itself. belonging: each table whose rows are archived and deleted with those that they refer to.';
COMMENT ON COLUMN jobqueue.rights.columns IS
    'Only these columns, or with all_but every other one; with neither, the whole table. The keys of `belonging` are those that refer.';

DO $$
DECLARE
    -- What the worker writes in a job's row, whichever queue it is of.
    kept text[] := '{status,run_after,retry_count,error_message,lease_token,lease_expires_at,locked_by,started_at,completed_at,updated_at,position,crash_count}';
    -- What a host that enqueues leaves to the worker.
    left_out text[] := '{retry_count,error_message,lease_token,lease_expires_at,locked_by,started_at,completed_at,position,crash_count}';
    publishing text[] := '{key_prefix}';
    packing    text[] := '{storage_key,cdn_url,filename,size_bytes,file_count,manifest,phase,files_done,files_total,bytes_done,bytes_total,upload_key,upload_id}';
    delivering text[] := '{status_code,response_body,response_time_ms,max_retries}';
    ticking    text[] := '{schedule,tick_at,tick_slot,tick_until}';
BEGIN
    INSERT INTO jobqueue.rights (role, target, privilege, columns, all_but) VALUES
        -- The worker, on what is ours.
        ('jobqueue_worker', 'jobqueue.migrations',          'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.queues',              'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.rights',              'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.position',            'USAGE',  NULL, NULL),
        ('jobqueue_worker', 'jobqueue.workers',             'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.workers',             'INSERT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.workers',             'UPDATE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.workers',             'DELETE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.attempts',            'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.attempts',            'INSERT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.attempts',            'DELETE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.superseded_prefixes', 'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.superseded_prefixes', 'INSERT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.superseded_prefixes', 'UPDATE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.superseded_prefixes', 'DELETE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.webhook_limits',      'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.webhook_limits',      'UPDATE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.webhook_attempts',    'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.webhook_attempts',    'INSERT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.webhook_attempts',    'DELETE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.schedule_ticks',      'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.schedule_ticks',      'INSERT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.schedule_ticks',      'UPDATE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.schedule_ticks',      'DELETE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.breakers',            'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.breakers',            'INSERT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.breakers',            'UPDATE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.breakers',            'DELETE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.backend_settings',    'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.backend_settings',    'INSERT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.backend_settings',    'UPDATE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.archivals',           'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.archivals',           'UPDATE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.archives',            'SELECT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.archives',            'INSERT', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.archives',            'UPDATE', NULL, NULL),
        ('jobqueue_worker', 'jobqueue.archives',            'DELETE', NULL, NULL),
        -- The worker, on queues: it takes jobs, records what became of them, and deletes them when they are old.
        ('jobqueue_worker', 'adopted',                      'SELECT', NULL, NULL),
        ('jobqueue_worker', 'adopted',                      'UPDATE', kept, NULL),
        ('jobqueue_worker', 'adopted',                      'DELETE', NULL, NULL),
        ('jobqueue_worker', 'public.publish_jobs',          'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.publish_jobs',          'INSERT', '{file_id,status,priority,max_retries}', NULL),
        ('jobqueue_worker', 'public.publish_jobs',          'UPDATE', kept || publishing, NULL),
        ('jobqueue_worker', 'public.publish_jobs',          'DELETE', NULL, NULL),
        ('jobqueue_worker', 'public.download_artifacts',    'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.download_artifacts',    'INSERT', '{project_id,type,priority,max_retries}', NULL),
        ('jobqueue_worker', 'public.download_artifacts',    'UPDATE', kept || packing, NULL),
        ('jobqueue_worker', 'public.download_artifacts',    'DELETE', NULL, NULL),
        ('jobqueue_worker', 'public.webhook_deliveries',    'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.webhook_deliveries',    'UPDATE', kept || delivering, NULL),
        ('jobqueue_worker', 'public.webhook_deliveries',    'DELETE', NULL, NULL),
        ('jobqueue_worker', 'public.jobs',                  'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.jobs',                  'INSERT', '{kind,payload,run_after,max_retries}' || ticking, NULL),
        ('jobqueue_worker', 'public.jobs',                  'UPDATE', kept, NULL),
        ('jobqueue_worker', 'public.jobs',                  'DELETE', NULL, NULL),
        -- The worker, on what jobs are about.
        ('jobqueue_worker', 'public.auction_files',         'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.auction_files',         'INSERT', '{source_key,original_name,asset_group_id}', NULL),
        ('jobqueue_worker', 'public.auction_files',         'UPDATE', '{thumb_url,display_url,cdn_key_prefix,bytes,width,height,publish_status,published_at,updated_at}', NULL),
        ('jobqueue_worker', 'public.auction_files',         'DELETE', NULL, NULL),
        ('jobqueue_worker', 'public.projects',              'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.project_media',         'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.project_media',         'UPDATE', '{measured_bytes,measured_crc32,measured_at}', NULL),
        -- A row can be locked by whoever may update a column of it; this one is what archival goes by.
        ('jobqueue_worker', 'public.platform_events',       'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.platform_events',       'UPDATE', '{created_at}', NULL),
        ('jobqueue_worker', 'public.platform_events',       'DELETE', NULL, NULL),
        ('jobqueue_worker', 'public.platform_notifications', 'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.platform_notifications', 'UPDATE', '{expiry_applied_at}', NULL),
        ('jobqueue_worker', 'public.platform_notifications', 'DELETE', NULL, NULL),
        ('jobqueue_worker', 'public.notification_state',    'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.notification_state',    'INSERT', '{notification_id,user_id,status,expired_at}', NULL),
        ('jobqueue_worker', 'public.notification_state',    'UPDATE', '{status,expired_at}', NULL),
        ('jobqueue_worker', 'public.notification_state',    'DELETE', NULL, NULL),
        ('jobqueue_worker', 'belonging',                    'SELECT', NULL, NULL),
        ('jobqueue_worker', 'belonging',                    'UPDATE', '{}', NULL),
        ('jobqueue_worker', 'belonging',                    'DELETE', NULL, NULL),
        ('jobqueue_worker', 'public.app_webhooks',          'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.app_webhooks',          'UPDATE', '{is_active,consecutive_failures,total_deliveries,total_failures,last_success_at,last_failure_at,disabled_reason,updated_at}', NULL),
        ('jobqueue_worker', 'public.schedules',             'SELECT', NULL, NULL),
        ('jobqueue_worker', 'public.schedules',             'INSERT', '{name,cron,every_seconds,timezone,scaled,kind,payload,missed,grace_seconds,catch_up,overlap,jitter_seconds,max_retries,enabled,source}', NULL),
        ('jobqueue_worker', 'public.schedules',             'UPDATE', '{cron,every_seconds,timezone,scaled,kind,payload,missed,grace_seconds,catch_up,overlap,jitter_seconds,max_retries,enabled,source,removed_at,paused_at,paused_by,last_tick_at,next_tick_at,revision}', NULL),
        -- A host enqueues. Of a job it reads the id, which RETURNING asks for.
        ('jobqueue_host',   'adopted',                      'INSERT', NULL, left_out),
        ('jobqueue_host',   'adopted',                      'SELECT', '{id}', NULL),
        ('jobqueue_host',   'public.publish_jobs',          'INSERT', NULL, left_out || publishing),
        ('jobqueue_host',   'public.publish_jobs',          'SELECT', '{id}', NULL),
        ('jobqueue_host',   'public.download_artifacts',    'INSERT', NULL, left_out || packing),
        ('jobqueue_host',   'public.download_artifacts',    'SELECT', '{id}', NULL),
        ('jobqueue_host',   'public.webhook_deliveries',    'INSERT', NULL, left_out || '{status_code,response_body,response_time_ms}'),
        ('jobqueue_host',   'public.webhook_deliveries',    'SELECT', '{id}', NULL),
        ('jobqueue_host',   'public.jobs',                  'INSERT', NULL, left_out || ticking),
        ('jobqueue_host',   'public.jobs',                  'SELECT', '{id}', NULL),
        ('jobqueue_host',   'public.auction_files',         'INSERT', NULL, '{thumb_url,display_url,cdn_key_prefix,publish_status,published_at,deleted_at}'),
        ('jobqueue_host',   'public.auction_files',         'SELECT', '{id}', NULL),
        ('jobqueue_host',   'public.projects',              'INSERT', NULL, '{}'),
        ('jobqueue_host',   'public.projects',              'SELECT', '{id}', NULL),
        ('jobqueue_host',   'public.project_media',         'INSERT', NULL, '{measured_bytes,measured_crc32,measured_at}'),
        ('jobqueue_host',   'public.project_media',         'SELECT', '{id}', NULL),
        ('jobqueue_host',   'public.platform_events',       'INSERT', NULL, '{}'),
        ('jobqueue_host',   'public.platform_events',       'SELECT', '{id}', NULL),
        ('jobqueue_host',   'public.platform_notifications', 'INSERT', NULL, '{expiry_applied_at}'),
        ('jobqueue_host',   'public.platform_notifications', 'SELECT', '{id}', NULL),
        -- A reader looks, but not at secrets. Of the backend's settings two words are kept, and no key.
        ('jobqueue_reader', 'jobqueue.migrations',          'SELECT', NULL, NULL),
        ('jobqueue_reader', 'jobqueue.queues',              'SELECT', NULL, NULL),
        ('jobqueue_reader', 'jobqueue.rights',              'SELECT', NULL, NULL),
        ('jobqueue_reader', 'jobqueue.workers',             'SELECT', NULL, NULL),
        ('jobqueue_reader', 'jobqueue.attempts',            'SELECT', NULL, NULL),
        ('jobqueue_reader', 'jobqueue.schedule_ticks',      'SELECT', NULL, NULL),
        ('jobqueue_reader', 'jobqueue.breakers',            'SELECT', NULL, NULL),
        ('jobqueue_reader', 'jobqueue.backend_settings',    'SELECT', NULL, NULL),
        ('jobqueue_reader', 'jobqueue.archives',            'SELECT', NULL, NULL),
        ('jobqueue_reader', 'adopted',                      'SELECT', NULL, NULL),
        ('jobqueue_reader', 'public.publish_jobs',          'SELECT', NULL, NULL),
        ('jobqueue_reader', 'public.download_artifacts',    'SELECT', NULL, NULL),
        ('jobqueue_reader', 'public.webhook_deliveries',    'SELECT', NULL, NULL),
        ('jobqueue_reader', 'public.jobs',                  'SELECT', NULL, NULL),
        ('jobqueue_reader', 'public.auction_files',         'SELECT', NULL, NULL),
        ('jobqueue_reader', 'public.schedules',             'SELECT', NULL, NULL),
        ('jobqueue_reader', 'public.app_webhooks',          'SELECT', NULL, '{webhook_secret}');
END $$;

-- Whoever works on queues without owning them, by a role of his own, can be told what it lacks.
SELECT jobqueue.grant_as_on_workers('jobqueue.rights', '{SELECT}');

-- The rights as they are to be in this database: one row for each right on a table that is there.
CREATE FUNCTION jobqueue.wanted_rights()
    RETURNS TABLE (role text, target regclass, kind "char", owner oid, privilege text, columns text[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- By the catalog: to look a name up takes the right to use its schema.
    WITH known AS (
        SELECT c.oid, format('%s.%s', n.nspname, c.relname) AS name, format('%I.%I', n.nspname, c.relname) AS quoted
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'S')
    ), named AS (
        SELECT r.*, k.oid FROM jobqueue.rights AS r JOIN known AS k ON k.name = r.target
    ), belonging AS (
        -- As archival reads the foreign keys: rows that go with what they refer to, and rows that hold it.
        SELECT f.conrelid, f.confdeltype = 'c' AND f.conrelid <> f.confrelid AS goes,
               ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey)) AS keys
        FROM pg_constraint AS f JOIN known AS k ON k.oid = f.confrelid
        WHERE f.contype = 'f' AND f.conparentid = 0 AND f.confdeltype NOT IN ('n', 'd')
          AND k.name IN ('public.platform_events', 'public.platform_notifications')
          AND f.conrelid NOT IN (SELECT n.oid FROM named AS n)
    ), placed AS (
        SELECT n.role, n.oid AS target, n.privilege, n.columns, n.all_but FROM named AS n
        UNION ALL
        SELECT r.role, k.oid, r.privilege, r.columns, r.all_but
        FROM jobqueue.rights AS r CROSS JOIN jobqueue.queues AS q JOIN known AS k ON k.quoted = q.table_name
        WHERE r.target = 'adopted' AND k.oid NOT IN (SELECT n.oid FROM named AS n)
        UNION ALL
        SELECT r.role, b.conrelid, r.privilege, CASE WHEN r.columns = '{}' THEN b.keys ELSE r.columns END, r.all_but
        FROM jobqueue.rights AS r CROSS JOIN belonging AS b
        WHERE r.target = 'belonging' AND (b.goes OR r.privilege = 'SELECT')
    )
    SELECT DISTINCT p.role, c.oid::regclass, c.relkind, c.relowner, p.privilege,
           CASE WHEN p.columns IS NOT NULL OR p.all_but IS NOT NULL THEN ARRAY(
               SELECT a.attname::text FROM pg_attribute AS a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 AND (a.attname = ANY (p.columns) OR a.attname <> ALL (p.all_but))
               ORDER BY a.attnum) END
    FROM placed AS p
    JOIN pg_class AS c ON c.oid = p.target
    -- So that an identity of a host's own kind can be drawn by whoever inserts.
    UNION
    SELECT p.role, s.oid::regclass, s.relkind, s.relowner, 'USAGE', NULL
    FROM placed AS p
    JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = p.target AND d.classid = 'pg_class'::regclass AND d.deptype = 'a'
    JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE p.privilege = 'INSERT'
$$;

-- Whether a role has a right, by whatever way.
CREATE FUNCTION jobqueue.has_right(role text, target regclass, kind "char", privilege text, columns text[]) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN CASE
        WHEN kind = 'S' THEN has_sequence_privilege(role, target, privilege)
        WHEN columns IS NULL THEN has_table_privilege(role, target, privilege)
        ELSE (SELECT coalesce(bool_and(has_column_privilege(role, target, name, privilege)), true) FROM unnest(columns) AS name) END;

CREATE FUNCTION jobqueue.grant_statement(role text, target regclass, kind "char", privilege text, columns text[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN format('GRANT %s%s ON %s%s TO %I', privilege,
                  (SELECT ' (' || string_agg(quote_ident(name), ', ') || ')' FROM unnest(columns) AS name),
                  CASE WHEN kind = 'S' THEN 'SEQUENCE ' END, target, role);

-- What the current role lacks to do as `as_role` does: a statement for each right.
CREATE FUNCTION jobqueue.missing_rights(as_role text DEFAULT 'jobqueue_worker') RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jobqueue.grant_statement(current_user, w.target, w.kind, w.privilege, w.columns)
    FROM jobqueue.wanted_rights() AS w
    WHERE w.role = as_role AND NOT jobqueue.has_right(current_user, w.target, w.kind, w.privilege, w.columns)
    ORDER BY 1
$$;

-- jobqueue.grant_roles(): gives our roles what they lack here, as far as they are there, and policies where a table has row-level
-- security. With a table, only on that one. Safe to run again. Returns a sentence for each thing that somebody else has to do.
CREATE FUNCTION jobqueue.grant_roles(only_on text DEFAULT NULL) RETURNS SETOF text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
    one     regclass := to_regclass(only_on);
    lacking record;
    refused text[] := '{}';
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname IN (SELECT g.role FROM jobqueue.rights AS g)) THEN
        RETURN;
    END IF;
    -- As adopt() does: two that grant on one table would fail over each other.
    PERFORM pg_advisory_xact_lock(hashtextextended('jobqueue.adopt', 0));

    FOR lacking IN
        SELECT DISTINCT w.role, n.oid, n.nspname, n.nspowner
        FROM jobqueue.wanted_rights() AS w
        JOIN pg_roles AS r ON r.rolname = w.role
        JOIN pg_class AS c ON c.oid = w.target JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE (one IS NULL OR w.target = one) AND NOT has_schema_privilege(w.role, n.oid, 'USAGE')
    LOOP
        IF pg_has_role(current_user, lacking.nspowner, 'USAGE')
           OR has_schema_privilege(current_user, lacking.oid, 'USAGE WITH GRANT OPTION') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', lacking.nspname, lacking.role);
        ELSE
            RETURN NEXT format('%s may not use the schema %s, and %s cannot mend that; its owner can: GRANT USAGE ON SCHEMA %I TO %I;',
                               lacking.role, lacking.nspname, current_user, lacking.nspname, lacking.role);
        END IF;
    END LOOP;

    FOR lacking IN
        SELECT w.*, jobqueue.grant_statement(w.role, w.target, w.kind, w.privilege, w.columns) AS statement
        FROM jobqueue.wanted_rights() AS w
        JOIN pg_roles AS r ON r.rolname = w.role
        WHERE (one IS NULL OR w.target = one OR EXISTS (
                  SELECT FROM pg_depend AS d WHERE d.objid = w.target AND d.refobjid = one AND d.deptype = 'a' AND w.kind = 'S'))
          AND NOT jobqueue.has_right(w.role, w.target, w.kind, w.privilege, w.columns)
        ORDER BY w.target::text, w.role, w.privilege
    LOOP
        IF pg_has_role(current_user, lacking.owner, 'USAGE') THEN
            EXECUTE lacking.statement;
        ELSIF lacking.target::text <> ALL (refused) THEN
            refused := refused || lacking.target::text;
            RETURN NEXT format('%s belongs to %s, and %s may not grant what the roles need on it: run `jobqueue roles --apply` as %s, or GRANT %I TO %I; and run this again',
                               lacking.target, lacking.owner::regrole, current_user, lacking.owner::regrole,
                               pg_get_userbyid(lacking.owner), current_user);
        END IF;
    END LOOP;

    -- A table with row-level security shows nothing to whom no policy names. What the owner's functions do is not held up by it.
    FOR lacking IN
        SELECT w.target, w.owner, w.role, command.word,
               format('CREATE POLICY %I ON %s FOR %s TO %I %s%s', policy.name, w.target, command.word, w.role,
                      CASE WHEN command.word = 'INSERT' THEN '' ELSE 'USING (true)' END,
                      CASE WHEN command.word = 'SELECT' THEN '' ELSE ' WITH CHECK (true)' END) AS statement
        FROM (SELECT DISTINCT r.target, r.owner, r.role FROM jobqueue.wanted_rights() AS r WHERE r.kind <> 'S') AS w
        JOIN pg_class AS c ON c.oid = w.target AND c.relrowsecurity
        JOIN pg_roles AS r ON r.rolname = w.role AND NOT r.rolsuper AND NOT r.rolbypassrls
        JOIN (VALUES ('jobqueue_worker', 'ALL'), ('jobqueue_host', 'INSERT'), ('jobqueue_host', 'SELECT'), ('jobqueue_reader', 'SELECT'))
            AS command (role, word) ON command.role = w.role
        CROSS JOIN LATERAL (SELECT lower(format('jobqueue_role_%s_%s', substr(w.role, 10), command.word))) AS policy (name)
        WHERE (one IS NULL OR w.target = one)
          AND NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = policy.name)
        ORDER BY w.target::text, w.role
    LOOP
        IF pg_has_role(current_user, lacking.owner, 'USAGE') THEN
            EXECUTE lacking.statement;
        ELSE
            RETURN NEXT format('%s has row-level security and no policy for %s; its owner %s can mend that: %s;',
                               lacking.target, lacking.role, lacking.owner::regrole, lacking.statement);
        END IF;
    END LOOP;
    -- Where it holds for the owner as well, functions that run with his rights need a policy for him.
    PERFORM jobqueue.admit_worker(w.target)
        FROM (SELECT DISTINCT r.target, r.owner FROM jobqueue.wanted_rights() AS r WHERE r.kind <> 'S') AS w
        JOIN pg_class AS c ON c.oid = w.target AND c.relrowsecurity AND c.relforcerowsecurity
        WHERE (one IS NULL OR w.target = one) AND pg_has_role(current_user, w.owner, 'USAGE');
    IF one IS NOT NULL THEN
        RETURN;
    END IF;

    -- Where somebody took from everybody the right to call functions.
    FOR lacking IN
        SELECT r.rolname, f.oid::regprocedure AS function, f.proowner
        FROM pg_proc AS f CROSS JOIN pg_roles AS r
        WHERE f.pronamespace = 'jobqueue'::regnamespace AND f.prorettype <> 'trigger'::regtype
          AND (r.rolname IN ('jobqueue_worker', 'jobqueue_reader')
               -- The default of a column.
               OR (r.rolname = 'jobqueue_host' AND f.proname = 'webhook_retries'))
          AND NOT has_function_privilege(r.oid, f.oid, 'EXECUTE')
    LOOP
        IF pg_has_role(current_user, lacking.proowner, 'USAGE') THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', lacking.function, lacking.rolname);
        ELSE
            RETURN NEXT format('%s may not call %s; its owner can mend that: GRANT EXECUTE ON FUNCTION %s TO %I;',
                               lacking.rolname, lacking.function, lacking.function, lacking.rolname);
        END IF;
    END LOOP;

    RETURN QUERY
        SELECT format('the function %s belongs to %s, and %s, who owns the schema, cannot replace it when the database is migrated: ALTER FUNCTION %s OWNER TO %s;',
                      f.oid::regprocedure, f.proowner::regrole, n.nspowner::regrole, f.oid::regprocedure, n.nspowner::regrole)
        FROM pg_namespace AS n JOIN pg_proc AS f ON f.pronamespace = n.oid
        WHERE n.nspname = 'jobqueue' AND NOT pg_has_role(n.nspowner, f.proowner, 'USAGE')
        ORDER BY f.oid::regprocedure::text;
    RETURN QUERY
        SELECT format('every role may create objects in the schema %I: one could put an operator in the way of functions that run with their owner''s rights; REVOKE CREATE ON SCHEMA %I FROM PUBLIC;',
                      n.nspname, n.nspname)
        FROM pg_namespace AS n CROSS JOIN aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS acl
        WHERE n.nspname = 'public' AND acl.grantee = 0 AND acl.privilege_type = 'CREATE';
    RETURN QUERY
        SELECT format('%s may read the secrets of webhooks, by a grant to another role or to everybody: REVOKE SELECT ON public.app_webhooks FROM PUBLIC, %I;',
                      r.rolname, r.rolname)
        FROM pg_roles AS r
        WHERE r.rolname IN ('jobqueue_host', 'jobqueue_reader') AND to_regclass('public.app_webhooks') IS NOT NULL
          AND has_column_privilege(r.oid, 'public.app_webhooks', 'webhook_secret', 'SELECT');
    -- The roles of a Data API that turns every table of the schema public into a resource for the world.
    RETURN QUERY
        SELECT format('%s may read or write %s through the Data API, which has no row-level security: ALTER TABLE %s ENABLE ROW LEVEL SECURITY; and run `jobqueue migrate` again',
                      string_agg(DISTINCT r.rolname, ' and '), c.oid::regclass, c.oid::regclass)
        FROM (SELECT DISTINCT w.target FROM jobqueue.wanted_rights() AS w WHERE w.kind <> 'S') AS w
        JOIN pg_class AS c ON c.oid = w.target AND NOT c.relrowsecurity
        JOIN pg_roles AS r ON r.rolname IN ('anon', 'authenticated')
        WHERE has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
          AND (has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(r.oid, c.oid, 'DELETE'))
        GROUP BY c.oid
        ORDER BY c.oid::regclass::text;
END $$;

-- A queue that is adopted, or adopted again, is given to the roles.
CREATE FUNCTION jobqueue.grant_adopted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    problem text;
BEGIN
    FOR problem IN SELECT * FROM jobqueue.grant_roles(NEW.table_name) LOOP
        RAISE WARNING '%', problem;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER jobqueue_1_grant AFTER INSERT OR UPDATE ON jobqueue.queues FOR EACH ROW EXECUTE FUNCTION jobqueue.grant_adopted();
