-- The ids of the jobs of {source} that match, up to {limit}; nothing is locked. Plan: as list_jobs.
SELECT t.id FROM {table} AS t WHERE {source} AND {matches} LIMIT {limit}
