-- How many jobs of {source} match, counted to {limit} and no further. Plan: as list_jobs.
SELECT count(*) FROM (SELECT FROM {table} AS t WHERE {source} AND {matches} LIMIT {limit}) AS found
