-- Makes the roles of jobqueue in this cluster and lets them into this database. Safe to run again.
--
--   jobqueue_migrate   owns the schema jobqueue and the tables that `jobqueue migrate` makes
--   jobqueue_worker    works on jobs: `jobqueue worker`, and the commands that change jobs
--   jobqueue_host      enqueues, and reads nothing but ids
--   jobqueue_reader    looks: `jobqueue stats`, `jobqueue jobs show`, a dashboard
--
-- None can log in until somebody says so: ALTER ROLE jobqueue_worker LOGIN PASSWORD '...'; or GRANT jobqueue_worker TO a role of
-- yours that can. To be run as who owns the database and may create roles; a superuser is not needed.
DO $$
DECLARE
    name    text;
    -- PostgreSQL 16 tells apart who is a member of a role and who may act as it.
    acts_as text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    problem text;
BEGIN
    FOREACH name IN ARRAY '{jobqueue_migrate,jobqueue_worker,jobqueue_host,jobqueue_reader}'::text[] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
        IF NOT has_database_privilege(name, current_database(), 'CONNECT') THEN
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
        END IF;
        IF NOT has_schema_privilege(name, 'public', 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', name);
        END IF;
    END LOOP;
    IF to_regnamespace('jobqueue') IS NULL THEN
        -- Who gives something away must be able to act as whom it is given to.
        IF NOT pg_has_role(current_user, 'jobqueue_migrate', acts_as) THEN
            EXECUTE format('GRANT jobqueue_migrate TO %I', current_user);
        END IF;
        CREATE SCHEMA jobqueue AUTHORIZATION jobqueue_migrate;
    END IF;
    IF (SELECT nspowner = 'jobqueue_migrate'::regrole FROM pg_catalog.pg_namespace WHERE nspname = 'jobqueue')
       AND NOT has_schema_privilege('jobqueue_migrate', 'public', 'CREATE') THEN
        GRANT CREATE ON SCHEMA public TO jobqueue_migrate;
    END IF;
    IF to_regprocedure('jobqueue.grant_roles(text)') IS NOT NULL THEN
        FOR problem IN SELECT * FROM jobqueue.grant_roles() LOOP
            RAISE WARNING '%', problem;
        END LOOP;
    END IF;
END $$;
