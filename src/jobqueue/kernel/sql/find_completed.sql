-- Which of these outcomes are recorded already. in: ids, tokens (pairs). out: ids. Plan: primary key.
SELECT t.id
FROM {table} AS t
JOIN unnest(%(ids)s::{id_type}[], %(tokens)s::uuid[]) AS held (id, token) ON t.id = held.id
WHERE t.lease_token = held.token AND t.lease_expires_at IS NULL
