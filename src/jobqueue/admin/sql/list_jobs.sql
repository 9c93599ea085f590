-- Jobs of {source} that match, up to {limit}. in: what the filters ask for. out: {columns}.
-- Plan: {source} is the predicate of a partial index and {order} its order, or {source} is a range of blocks.
SELECT {columns}
FROM {table} AS t
WHERE {source} AND {matches}
ORDER BY {order}
LIMIT {limit}
