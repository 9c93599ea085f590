-- auction_files.publish_status follows a job also when a host deletes it, or says `completed` itself, while it is being published.
-- The holder's own completion keeps its lease's token on the row; whatever a host writes takes it away.
CREATE OR REPLACE FUNCTION jobqueue.follow_publish_job() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_variable
DECLARE
    job    public.publish_jobs := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    -- A job that is no more leaves its file as a cancelled one does.
    state  text := CASE WHEN TG_OP = 'DELETE' OR job.status = 'completed' THEN 'cancelled' ELSE job.status END;
    -- A host that ends a job itself may have said of the file what it likes.
    leaves text := CASE WHEN TG_OP = 'DELETE' OR job.status = 'completed' THEN 'processing' END;
BEGIN
    IF state NOT IN ('pending', 'processing', 'failed', 'cancelled') THEN
        RAISE EXCEPTION 'the status of the publish job % cannot be %: it may be pending, processing, completed, failed or cancelled',
            job.id, quote_literal(state)
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'status';
    END IF;
    IF state = 'cancelled' THEN
        state := coalesce((
            SELECT j.status FROM public.publish_jobs AS j
            WHERE j.file_id = job.file_id AND j.id <> job.id AND j.status IN ('pending', 'processing')
            ORDER BY j.status = 'processing' DESC LIMIT 1), state);
    END IF;
    UPDATE public.auction_files AS f
        SET publish_status = jobqueue.publish_status(state, f.thumb_url), updated_at = now()
        WHERE f.id = (
            SELECT l.id FROM public.auction_files AS l
            WHERE l.id = job.file_id AND l.publish_status IS DISTINCT FROM 'deleted'
              AND (leaves IS NULL OR l.publish_status = leaves)
            FOR NO KEY UPDATE SKIP LOCKED)
          AND f.publish_status IS DISTINCT FROM jobqueue.publish_status(state, f.thumb_url);
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION jobqueue.follow_publish_job() SET search_path = %s', jobqueue.host_search_path());
END $$;
DROP TRIGGER jobqueue_6_follow ON public.publish_jobs;
CREATE TRIGGER jobqueue_6_follow AFTER UPDATE ON public.publish_jobs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND (NEW.status <> 'completed' OR NEW.lease_token IS NULL))
    EXECUTE FUNCTION jobqueue.follow_publish_job();
CREATE TRIGGER jobqueue_6_follow_gone AFTER DELETE ON public.publish_jobs FOR EACH ROW
    WHEN (OLD.status = 'processing') EXECUTE FUNCTION jobqueue.follow_publish_job();
