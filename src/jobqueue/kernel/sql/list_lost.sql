-- Jobs whose leases have run out. in: back (as rescue_jobs). out: ids, at most 500, in no order: rescue may have to pass over
-- the same ones again and again. Plan: the lease index.
SELECT c.id FROM (
    SELECT c.id FROM {table} AS c
    WHERE c.status = {processing} AND c.lease_expires_at < statement_timestamp()
      AND c.lease_expires_at >= coalesce(statement_timestamp() - make_interval(secs => %(back)s::float8), '-infinity')
    ORDER BY c.lease_expires_at
    LIMIT 5000) AS c
ORDER BY random()
LIMIT 500
