-- The job that will publish, is publishing, or was the last to publish each file.
-- in: files, pending, processing (the queue's words). out: file_id, id. Plan: the index on file_id.
SELECT DISTINCT ON (j.file_id) j.file_id, j.id
FROM public.publish_jobs AS j
WHERE j.file_id = ANY (%(files)s::uuid[])
ORDER BY j.file_id, j.status = %(pending)s DESC, j.status = %(processing)s DESC, j.created_at DESC
