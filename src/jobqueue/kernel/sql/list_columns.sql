-- The columns of the queue's table; none when the table is gone. in: table, qualified and quoted. out: names, and types as
-- pg_type calls them: a domain's is the one below it, and that of an enumeration reads as text.
SELECT a.attname::text, CASE WHEN below.typtype = 'e' THEN 'text' ELSE below.typname::text END
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_type AS own ON own.oid = a.atttypid
JOIN pg_catalog.pg_type AS below ON below.oid = CASE WHEN own.typtype = 'd' THEN own.typbasetype ELSE own.oid END
WHERE a.attrelid = pg_catalog.to_regclass(%(table)s::text) AND NOT a.attisdropped
