-- The indexes of pending jobs, with a predicate that only they have: "(status = 'pending') IS TRUE".
--
-- A host often has an index on the status of its own. While statistics say that nothing is pending, that index looks
-- cheaper than ours, and each claim would read and sort the whole backlog through it. It cannot serve this predicate.

CREATE OR REPLACE FUNCTION jobqueue.ensure_index(target regclass, purpose text, definition text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    mark       text;
    ours       record;
    schema     name;
    index_name text;
BEGIN
    IF purpose IN ('claim', 'delayed', 'suspect') THEN
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
    EXECUTE format('CREATE %s INDEX %I ON %s %s', CASE purpose WHEN 'coalesce' THEN 'UNIQUE' ELSE '' END,
                   index_name, target, definition);
    EXECUTE format('COMMENT ON INDEX %I.%I IS %L', schema, index_name, mark);
END $$;

SELECT jobqueue.adopt(q.table_name) FROM jobqueue.queues AS q WHERE to_regclass(q.table_name) IS NOT NULL;
