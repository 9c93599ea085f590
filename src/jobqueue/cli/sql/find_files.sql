-- Files that are there already, not deleted, the oldest of each key. in: keys, group (NULL: any). out: source_key, id.
SELECT DISTINCT ON (f.source_key) f.source_key, f.id
FROM public.auction_files AS f
WHERE f.source_key = ANY (%(keys)s) AND f.deleted_at IS NULL AND f.publish_status <> 'deleted'
  AND (%(group)s::uuid IS NULL OR f.asset_group_id = %(group)s::uuid)
ORDER BY f.source_key, f.created_at, f.id
