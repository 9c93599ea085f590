-- Attaches files. in: keys, names (pairs), group. out: source_key, id.
INSERT INTO public.auction_files (source_key, original_name, asset_group_id)
SELECT file.key, file.name, %(group)s::uuid
FROM unnest(%(keys)s::text[], %(names)s::text[]) AS file (key, name)
RETURNING source_key, id
