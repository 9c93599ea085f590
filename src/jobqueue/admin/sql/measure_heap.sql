-- How many blocks the table has; of a partitioned one, its largest partition.
SELECT greatest(pg_relation_size({relation}::regclass),
                (SELECT max(pg_relation_size(relid)) FROM pg_partition_tree({relation}::regclass)))
       / current_setting('block_size')::bigint
