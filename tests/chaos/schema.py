"""What the host of a run adds to its database to see what happens: every outcome, effect and publication leaves a row."""

from __future__ import annotations

from typing import Final

_OUTCOMES: Final = """
CREATE TRIGGER chaos_outcome AFTER UPDATE OF status ON public.{table} FOR EACH ROW
    WHEN (NEW.status IS DISTINCT FROM OLD.status AND lower(NEW.status) IN ('completed', 'ready', 'failed', 'cancelled'))
    EXECUTE FUNCTION chaos.note_outcome();
"""

SCHEMA: Final = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.portions (first int PRIMARY KEY, past int NOT NULL);
CREATE TABLE chaos.effects (job_id bigint NOT NULL, token uuid NOT NULL);
CREATE TABLE chaos.outcomes (queue text NOT NULL, job_id text NOT NULL, status text NOT NULL, token uuid);
CREATE TABLE chaos.publications (what text NOT NULL, id uuid NOT NULL);
CREATE FUNCTION chaos.note_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.outcomes VALUES (TG_TABLE_NAME, NEW.id::text, NEW.status, NEW.lease_token);
    RETURN NULL;
END $$;
CREATE FUNCTION chaos.note_publication() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.publications VALUES (TG_TABLE_NAME, NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_publication AFTER UPDATE OF published_at ON public.auction_files FOR EACH ROW
    WHEN (NEW.published_at IS DISTINCT FROM OLD.published_at) EXECUTE FUNCTION chaos.note_publication();
CREATE TRIGGER chaos_publication AFTER UPDATE OF cdn_url ON public.download_artifacts FOR EACH ROW
    WHEN (NEW.cdn_url IS NOT NULL) EXECUTE FUNCTION chaos.note_publication();
""" + "".join(
    _OUTCOMES.format(table=table) for table in ("jobs", "publish_jobs", "webhook_deliveries", "download_artifacts")
)
