"""Purges files that were soft-deleted long ago: every object of the file with all its versions, and its rows.

Objects are keyed by content, so two files with the same bytes share them. A prefix stays while another file names it,
deleted or not, and while another file's job has noted it and is not done. The last file to be purged removes it. The
advisory lock of media/orphans.py keeps a job from noting a prefix while its objects are being removed.

After as many days the purge also sweeps what else is left: prefixes that a file named before it was published again, and
those noted by jobs that failed or were cancelled. Their objects go, unless somebody names them by now.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg import errors

from jobqueue.errors import Permanent
from jobqueue.media import orphans
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    import psycopg

    from jobqueue.kernel import Context, Job
    from jobqueue.storage.objects import Objects

log = get_logger(__name__)

DAYS: Final = 30
"""Days from the soft deletion of a file to its purge, unless the payload says otherwise."""

_BATCH: Final = 200
_VARIANTS: Final = ("thumb.webp", "display.webp")

# A file's prefix never has more objects directly below it than this.
_MOST_OBJECTS: Final = 100

_LIST_DUE_FILES: Final = """
SELECT id FROM public.auction_files
WHERE deleted_at < now() - %(age)s::interval AND id > %(after)s
ORDER BY id LIMIT %(limit)s"""

# The purge leaves a file whose own job is running for another day: its worker may be writing.
_HOLD_FILE: Final = """
SELECT f.cdn_key_prefix FROM public.auction_files AS f
WHERE f.id = %(id)s AND f.deleted_at < now() - %(age)s::interval
  AND NOT EXISTS (SELECT FROM public.publish_jobs AS j WHERE j.file_id = f.id AND j.status = 'processing')
FOR UPDATE SKIP LOCKED"""

_LIST_NOTED_PREFIXES: Final = (
    "SELECT DISTINCT key_prefix FROM public.publish_jobs WHERE file_id = %(id)s AND key_prefix IS NOT NULL"
)

_IS_SHARED: Final = """
SELECT EXISTS (SELECT FROM public.auction_files WHERE cdn_key_prefix = %(prefix)s AND id <> %(id)s)
    OR EXISTS (SELECT FROM public.publish_jobs
               WHERE key_prefix = %(prefix)s AND file_id <> %(id)s AND status <> 'completed')"""

_DELETE_FILE: Final = "DELETE FROM public.auction_files WHERE id = %(id)s"

_LIST_NOTES: Final = """
SELECT id, key_prefix FROM public.publish_jobs
WHERE status IN ('failed', 'cancelled') AND key_prefix IS NOT NULL
  AND coalesce(completed_at, created_at) < now() - %(age)s::interval AND id > %(after)s
ORDER BY id LIMIT %(limit)s"""

_HOLD_NOTE: Final = """
SELECT 1 FROM public.publish_jobs
WHERE id = %(id)s AND key_prefix = %(prefix)s AND status IN ('failed', 'cancelled') FOR UPDATE SKIP LOCKED"""

_IS_NAMED: Final = """
SELECT EXISTS (SELECT FROM public.auction_files WHERE cdn_key_prefix = %(prefix)s)
    OR EXISTS (SELECT FROM public.publish_jobs
               WHERE key_prefix = %(prefix)s AND id <> %(id)s AND status <> 'completed')"""

_LIST_SUPERSEDED: Final = """
SELECT prefix FROM jobqueue.superseded_prefixes
WHERE superseded_at < now() - %(age)s::interval AND prefix > %(after)s
ORDER BY prefix LIMIT %(limit)s"""

_IS_IN_USE: Final = """
SELECT EXISTS (SELECT FROM public.auction_files WHERE cdn_key_prefix = %(prefix)s)
    OR EXISTS (SELECT FROM public.publish_jobs WHERE key_prefix = %(prefix)s AND status <> 'completed')"""

_FORGET_SUPERSEDED: Final = "DELETE FROM jobqueue.superseded_prefixes WHERE prefix = %(prefix)s"

_FORGET_NOTE: Final = "UPDATE public.publish_jobs SET key_prefix = NULL WHERE id = %(id)s"

# Before every id.
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"


class _Note(NamedTuple):
    """The columns of _LIST_NOTES: an ended job, and the prefix that it had noted."""

    job_id: UUID
    prefix: str


class MediaPurge:
    """The handler of the kind `media-purge`, with the store that the objects are in."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def run(self, job: Job, context: Context) -> None:
        """Purge what is due, each file in a transaction of its own. The payload may hold `days`.

        What was purged stays so when this ends early. A file that the host's tables refer to stays, and the log names
        it. Raises Permanent for other `days` than a number from 0, and as `Objects` and the context do.
        """
        age = timedelta(days=_days(job.columns["payload"]))
        purged, refused = 0, 0
        for (file_id,) in self._found(_LIST_DUE_FILES, age, context):
            try:
                with context.stage("purge"):
                    purged += self._purge(file_id, age, context)
            except errors.IntegrityError as error:
                # The host's own tables refer to the file: the host has to let go of it first.
                refused += 1
                log.warning("file_not_purged", file_id=str(file_id), error=error.diag.message_primary)
        swept = 0
        for note in map(_Note._make, self._found(_LIST_NOTES, age, context)):
            with context.stage("sweep"):
                swept += self._sweep(note, context)
        for (prefix,) in self._found(_LIST_SUPERSEDED, age, context, after=""):
            with context.stage("sweep"):
                self._sweep_superseded(prefix, context)
                swept += 1
        log.info("media_purged", files=purged, refused=refused, swept=swept)

    @staticmethod
    def _found(query: str, age: timedelta, context: Context, after: UUID | str = _NOBODY) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, in the order of their first column, read a batch at a time."""
        while True:
            batch = context.read(query, {"age": age, "after": after, "limit": _BATCH})
            yield from batch
            if len(batch) < _BATCH:
                return
            after = batch[-1][0]

    def _purge(self, file_id: UUID, age: timedelta, context: Context) -> bool:
        """Purge one file. Returns whether it was still there and due."""
        done: list[bool] = []

        def purge(cursor: psycopg.Cursor[Any]) -> None:
            done[:] = [False]
            held = cursor.execute(_HOLD_FILE, {"id": file_id, "age": age}).fetchone()
            if held is None:
                return
            (named,) = held
            noted = {prefix for (prefix,) in cursor.execute(_LIST_NOTED_PREFIXES, {"id": file_id}).fetchall()}
            prefixes = sorted(prefix for prefix in {named, *noted} if prefix)
            # All purges lock in one order, so that two never wait for each other.
            for prefix in prefixes:
                cursor.execute(orphans.LOCK_PREFIX, {"prefix": prefix})
            unshared = [
                prefix
                for prefix in prefixes
                if cursor.execute(_IS_SHARED, {"prefix": prefix, "id": file_id}).fetchone() == (False,)
            ]
            # The row goes first, so that a foreign key speaks up before an object is gone. Others see it until the end.
            cursor.execute(_DELETE_FILE, {"id": file_id})
            for prefix in unshared:
                self._remove(prefix, context)
            done[:] = [True]

        context.write(purge)
        return done[0]

    def _sweep(self, note: _Note, context: Context) -> bool:
        """Remove what an ended job left under its prefix, and the note of it. Returns whether there still was a note."""
        done: list[bool] = []

        def sweep(cursor: psycopg.Cursor[Any]) -> None:
            # Lock the prefix first, as media/orphans.py does, so that the two never wait for each other.
            cursor.execute(orphans.LOCK_PREFIX, {"prefix": note.prefix})
            params = {"id": note.job_id, "prefix": note.prefix}
            done[:] = [cursor.execute(_HOLD_NOTE, params).fetchone() is not None]
            if not done[0]:
                return
            if cursor.execute(_IS_NAMED, params).fetchone() == (False,):
                self._remove(note.prefix, context)
            cursor.execute(_FORGET_NOTE, {"id": note.job_id})

        context.write(sweep)
        return done[0]

    def _sweep_superseded(self, prefix: str, context: Context) -> None:
        """Remove what lies under a prefix that its file no longer names, unless it is in use again, and forget it."""

        def sweep(cursor: psycopg.Cursor[Any]) -> None:
            cursor.execute(orphans.LOCK_PREFIX, {"prefix": prefix})
            if cursor.execute(_IS_IN_USE, {"prefix": prefix}).fetchone() == (False,):
                self._remove(prefix, context)
            cursor.execute(_FORGET_SUPERSEDED, {"prefix": prefix})

        context.write(sweep)

    def _remove(self, prefix: str, context: Context) -> None:
        """Remove the objects directly below `prefix`, and the versions of a file's objects where only those are left."""
        start = f"{prefix}/"
        listed = list(islice(self._objects.keys(start), _MOST_OBJECTS + 1))
        if len(listed) > _MOST_OBJECTS:
            log.error("prefix_not_purged", prefix=prefix, reason="it has too many objects to be one of a file")
            return
        keys = {key for key in listed if "/" not in key.removeprefix(start)}
        for key in sorted(keys | {f"{start}{name}" for name in _VARIANTS}):
            context.checkpoint()
            self._objects.delete(key)


def _days(payload: Any) -> float:
    days = payload.get("days", DAYS)
    if isinstance(days, bool) or not isinstance(days, int | float) or days < 0:
        raise Permanent("the payload's days must be a number, such as 30")
    return float(days)
