-- Which of these outcomes are recorded already. in: ids, tokens (pairs). out: ids. Plan: primary key.
SELECT t.id FROM {table} AS t WHERE {held} AND t.lease_expires_at IS NULL
