-- Archives: the media of a project, and the queue that packs them into one ZIP on the CDN.
-- All three tables may exist already, with fewer columns and with rows: they are completed in place.

CREATE TABLE IF NOT EXISTS public.projects (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
ALTER TABLE public.projects
    ADD COLUMN IF NOT EXISTS name text;
SELECT jobqueue.admit_worker('public.projects');

-- A host's projects may have keys of another type than ours would: what refers to them takes theirs.
DO $$
DECLARE
    key_type text;
BEGIN
    SELECT format_type(a.atttypid, a.atttypmod) INTO key_type
        FROM pg_attribute a WHERE a.attrelid = 'public.projects'::regclass AND a.attname = 'id' AND NOT a.attisdropped;
    EXECUTE format('CREATE TABLE IF NOT EXISTS public.project_media (
                        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                        project_id %s NOT NULL REFERENCES public.projects (id) ON DELETE CASCADE)', key_type);
    EXECUTE format('ALTER TABLE public.project_media
                        ADD COLUMN IF NOT EXISTS project_id %s REFERENCES public.projects (id) ON DELETE CASCADE', key_type);
    EXECUTE format('CREATE TABLE IF NOT EXISTS public.download_artifacts (
                        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                        project_id %s NOT NULL REFERENCES public.projects (id) ON DELETE CASCADE
                    ) WITH (fillfactor = 70)', key_type);
    EXECUTE format('ALTER TABLE public.download_artifacts
                        ADD COLUMN IF NOT EXISTS project_id %s REFERENCES public.projects (id) ON DELETE CASCADE', key_type);
END $$;

ALTER TABLE public.project_media
    ADD COLUMN IF NOT EXISTS kind           text NOT NULL DEFAULT 'OTHER',
    ADD COLUMN IF NOT EXISTS source_key     text,
    ADD COLUMN IF NOT EXISTS filename       text,
    ADD COLUMN IF NOT EXISTS bytes          bigint,
    ADD COLUMN IF NOT EXISTS created_at     timestamptz DEFAULT now(),
    ADD COLUMN IF NOT EXISTS measured_bytes bigint,
    ADD COLUMN IF NOT EXISTS measured_crc32 bigint,
    ADD COLUMN IF NOT EXISTS measured_at    timestamptz;
COMMENT ON COLUMN public.project_media.measured_bytes IS
    'Size of the file as it was read from the origin; with measured_crc32 it lets an archive be laid out before a byte is read.';
COMMENT ON COLUMN public.project_media.measured_crc32 IS
    'CRC-32 of the file as it was read from the origin, 0 to 4294967295.';
SELECT jobqueue.admit_worker('public.project_media');
CREATE INDEX IF NOT EXISTS project_media_project ON public.project_media (project_id);

-- What was measured belongs to the file that was read: another key is another file.
CREATE FUNCTION jobqueue.forget_measures() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    NEW.measured_bytes := NULL;
    NEW.measured_crc32 := NULL;
    NEW.measured_at := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER jobqueue_forget_measures BEFORE UPDATE OF source_key ON public.project_media FOR EACH ROW
    WHEN (OLD.source_key IS DISTINCT FROM NEW.source_key)
    EXECUTE FUNCTION jobqueue.forget_measures();

ALTER TABLE public.download_artifacts
    ADD COLUMN IF NOT EXISTS type        text NOT NULL DEFAULT 'ALL',
    ADD COLUMN IF NOT EXISTS storage_key text,
    ADD COLUMN IF NOT EXISTS cdn_url     text,
    ADD COLUMN IF NOT EXISTS filename    text,
    ADD COLUMN IF NOT EXISTS size_bytes  bigint,
    ADD COLUMN IF NOT EXISTS file_count  int,
    ADD COLUMN IF NOT EXISTS manifest    jsonb,
    ADD COLUMN IF NOT EXISTS phase       text,
    ADD COLUMN IF NOT EXISTS files_done  int,
    ADD COLUMN IF NOT EXISTS files_total int,
    ADD COLUMN IF NOT EXISTS bytes_done  bigint,
    ADD COLUMN IF NOT EXISTS bytes_total bigint,
    ADD COLUMN IF NOT EXISTS upload_key  text,
    ADD COLUMN IF NOT EXISTS upload_id   text;
COMMENT ON COLUMN public.download_artifacts.phase IS
    'What is being done: measuring (files are read for the first time), sending. Its progress is in the four columns after it.';
COMMENT ON COLUMN public.download_artifacts.upload_key IS
    'Where this artifact last began to write: noted before the store is asked for an upload, so that none is ever left behind.';
COMMENT ON COLUMN public.download_artifacts.upload_id IS
    'The multipart upload under upload_key: noted before its first part is sent.';
SELECT jobqueue.adopt('public.download_artifacts', pending => 'PENDING', processing => 'GENERATING',
                      completed => 'READY', failed => 'FAILED', cancelled => 'CANCELLED');
CREATE INDEX IF NOT EXISTS download_artifacts_project ON public.download_artifacts (project_id);
CREATE INDEX IF NOT EXISTS download_artifacts_storage_key ON public.download_artifacts (storage_key)
    WHERE storage_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS download_artifacts_upload_key ON public.download_artifacts (upload_key)
    WHERE upload_key IS NOT NULL;
