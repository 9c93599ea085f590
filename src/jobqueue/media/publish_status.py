"""The publish_status of files that could not follow their job catches up.

The triggers on publish_jobs (sql/0014_followers.sql) skip a file that somebody holds locked, so that a host's open
transaction never stops a claim. Such a file still says `processing` when its job has gone on. `follow` finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jobqueue.kernel.database.link import Link

_FOLLOW_JOBS: Final = b"""
WITH behind AS MATERIALIZED (
    SELECT f.id, latest.status
    FROM public.auction_files AS f
    LEFT JOIN LATERAL (
        SELECT j.status FROM public.publish_jobs AS j
        WHERE j.file_id = f.id
        -- A twin that gave way changed last, and says nothing of the file.
        ORDER BY j.status = 'cancelled' AND j.error_message LIKE 'coalesced into job %%', j.updated_at DESC NULLS LAST
        LIMIT 1) AS latest ON true
    WHERE f.publish_status = 'processing'
      AND (latest.status IN ('pending', 'failed', 'cancelled')
           -- Its job was deleted, or a host has ended it.
           OR NOT EXISTS (SELECT FROM public.publish_jobs AS j WHERE j.file_id = f.id AND j.status = 'processing'))
    LIMIT 500
    FOR NO KEY UPDATE OF f SKIP LOCKED)
UPDATE public.auction_files AS f
SET publish_status = jobqueue.publish_status(
        CASE WHEN behind.status IN ('pending', 'failed') THEN behind.status ELSE 'cancelled' END, f.thumb_url), updated_at = now()
FROM behind
WHERE f.id = behind.id
"""


def follow(link: Link) -> None:
    """Set publish_status of files that say `processing` although no job of theirs is. At most 500 a call."""
    link.fetch(_FOLLOW_JOBS)
