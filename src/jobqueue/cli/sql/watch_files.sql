-- How the publishing of files goes. in: jobs. out: job, state word, why it failed, thumb_url, display_url.
-- Plan: the primary keys.
SELECT j.id, j.status, j.error_message, f.thumb_url, f.display_url
FROM public.publish_jobs AS j
JOIN public.auction_files AS f ON f.id = j.file_id
WHERE j.id = ANY (%(jobs)s)
