-- Publishing: files of the host, and the queue that turns them into pictures on the CDN.
-- Both tables may exist already, with fewer columns and with rows: they are completed in place.

CREATE TABLE IF NOT EXISTS public.auction_files (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
ALTER TABLE public.auction_files
    ADD COLUMN IF NOT EXISTS item_id        uuid,
    ADD COLUMN IF NOT EXISTS asset_group_id uuid,
    ADD COLUMN IF NOT EXISTS source_key     text,
    ADD COLUMN IF NOT EXISTS original_name  text,
    ADD COLUMN IF NOT EXISTS mime_type      text,
    ADD COLUMN IF NOT EXISTS bytes          bigint,
    ADD COLUMN IF NOT EXISTS width          int,
    ADD COLUMN IF NOT EXISTS height         int,
    ADD COLUMN IF NOT EXISTS thumb_url      text,
    ADD COLUMN IF NOT EXISTS display_url    text,
    ADD COLUMN IF NOT EXISTS cdn_key_prefix text,
    ADD COLUMN IF NOT EXISTS publish_status text NOT NULL DEFAULT 'pending',
    ADD COLUMN IF NOT EXISTS published_at   timestamptz,
    ADD COLUMN IF NOT EXISTS deleted_at     timestamptz,
    ADD COLUMN IF NOT EXISTS created_at     timestamptz DEFAULT now(),
    ADD COLUMN IF NOT EXISTS updated_at     timestamptz DEFAULT now();
SELECT jobqueue.admit_words('public.auction_files', 'publish_status',
                            '{pending,processing,published,failed,deleted}');
SELECT jobqueue.admit_worker('public.auction_files');
CREATE INDEX IF NOT EXISTS auction_files_cdn_key_prefix ON public.auction_files (cdn_key_prefix)
    WHERE cdn_key_prefix IS NOT NULL;
CREATE INDEX IF NOT EXISTS auction_files_source_key ON public.auction_files USING hash (source_key);
CREATE INDEX IF NOT EXISTS auction_files_publishing ON public.auction_files (id) WHERE publish_status = 'processing';

CREATE TABLE IF NOT EXISTS public.publish_jobs (
    id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    file_id uuid NOT NULL REFERENCES public.auction_files (id) ON DELETE CASCADE
) WITH (fillfactor = 80);
ALTER TABLE public.publish_jobs
    ADD COLUMN IF NOT EXISTS file_id    uuid REFERENCES public.auction_files (id) ON DELETE CASCADE,
    ADD COLUMN IF NOT EXISTS key_prefix text;
COMMENT ON COLUMN public.publish_jobs.key_prefix IS
    'Where this job last began to put objects: noted before the first is written, so that no object is ever left unnamed.';
SELECT jobqueue.adopt('public.publish_jobs', coalesce_by => 'file_id');
CREATE INDEX IF NOT EXISTS publish_jobs_file ON public.publish_jobs (file_id);

-- Prefixes that a file named until it was published again with other bytes: their objects go when nobody can be using
-- the old URLs any more (media/purge.py).
CREATE TABLE jobqueue.superseded_prefixes (
    prefix        text PRIMARY KEY,
    superseded_at timestamptz NOT NULL DEFAULT now()
);

-- The publish_status that a job's state gives its file. `published` is not here: the handler's transaction sets it.
CREATE FUNCTION jobqueue.publish_status(job_status text, thumb_url text) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN CASE job_status
        WHEN 'processing' THEN 'processing'
        WHEN 'pending' THEN 'pending'
        WHEN 'failed' THEN 'failed'
        WHEN 'cancelled' THEN CASE WHEN thumb_url IS NULL THEN 'pending' ELSE 'published' END
    END;

-- auction_files.publish_status follows the job, whoever changes it. A file that somebody holds locked is skipped here
-- and caught up with by the worker (media/status.py): a host's open transaction must never stop a claim.
CREATE FUNCTION jobqueue.follow_publish_job() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE public.auction_files AS f
        SET publish_status = jobqueue.publish_status(NEW.status, f.thumb_url), updated_at = now()
        WHERE f.id = (
            SELECT l.id FROM public.auction_files AS l
            WHERE l.id = NEW.file_id AND l.publish_status IS DISTINCT FROM 'deleted'
            FOR NO KEY UPDATE SKIP LOCKED)
          AND f.publish_status IS DISTINCT FROM jobqueue.publish_status(NEW.status, f.thumb_url);
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION jobqueue.follow_publish_job() SET search_path = %s', jobqueue.host_search_path());
END $$;
CREATE TRIGGER jobqueue_6_follow AFTER UPDATE ON public.publish_jobs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status <> 'completed')
    EXECUTE FUNCTION jobqueue.follow_publish_job();
