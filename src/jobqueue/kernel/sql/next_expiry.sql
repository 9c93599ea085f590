-- Seconds until the first lease runs out (NULL: none is held). Plan: the lease index.
SELECT extract(epoch FROM least(c.lease_expires_at, clock_timestamp() + interval '1 year') - clock_timestamp())::float8
FROM {table} AS c
WHERE c.status = {processing} AND c.lease_expires_at IS NOT NULL
ORDER BY c.lease_expires_at
LIMIT 1
