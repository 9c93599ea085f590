-- Tables that a person may mean by the name of a queue that there is not. in: name. out: qualified and quoted.
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND %(name)s::text IN (c.relname::text, n.nspname::text || '.' || c.relname::text)
ORDER BY n.nspname <> 'public', n.nspname
LIMIT 1
