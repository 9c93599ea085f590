-- The default of max_retries in the queue's table, as its expression. in: table, qualified and quoted. out: at most one row.
SELECT pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = pg_catalog.to_regclass(%(table)s::text) AND a.attname = 'max_retries' AND NOT a.attisdropped
