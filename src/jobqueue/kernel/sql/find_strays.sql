-- Jobs that are held in the name of `worker`. in: worker. out: id, token, at most 500. Plan: the lease index, which is small.
SELECT t.id, t.lease_token
FROM {table} AS t
WHERE t.status = {processing} AND t.lease_expires_at IS NOT NULL AND t.lease_token IS NOT NULL AND t.locked_by = %(worker)s
ORDER BY t.lease_expires_at
LIMIT 500
