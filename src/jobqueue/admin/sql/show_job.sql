-- One job with every column of its table. in: id. Plan: the index on id.
SELECT t.* FROM {table} AS t WHERE t.id = %(id)s::{id_type}
