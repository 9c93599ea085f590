-- The columns of the queue's table; none when the table is gone. in: table, qualified and quoted. out: names.
SELECT attname::text
FROM pg_catalog.pg_attribute
WHERE attrelid = pg_catalog.to_regclass(%(table)s::text) AND NOT attisdropped
