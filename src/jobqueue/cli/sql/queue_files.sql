-- Asks for files to be published. in: files, pending (the queue's word), priority, max_retries.
-- out: file_id, id; a file whose job is pending already has no row, because the second becomes the first.
INSERT INTO public.publish_jobs (file_id, status, priority, max_retries)
SELECT file_id, %(pending)s, %(priority)s, %(max_retries)s
FROM unnest(%(files)s::uuid[]) AS file_id
RETURNING file_id, id
