"""No upload and no object is left that nothing names.

A job notes in its own row the key that it is about to write to, before it asks the store for anything, and the upload's
id before it sends the first part. Whoever takes over after a crash aborts what is noted. A sweep cleans up after rows
that are over, and aborts uploads that no row names once they are old.

While a job has its key noted and holds its lease, no other job builds the same artifact: it waits and finds it built.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg

from jobqueue.artifacts.artifact_plan import PREFIX
from jobqueue.database_session import connect
from jobqueue.errors import JobError, Snooze
from jobqueue.observe.logging import get_logger
from jobqueue.storage.multipart import abort, unfinished
from jobqueue.storage.store_failures import AccessRefused

if TYPE_CHECKING:
    from jobqueue.kernel import Context
    from jobqueue.kernel.database.link import Link
    from jobqueue.storage.objects import Objects

log = get_logger(__name__)

_TWIN_SECONDS: Final = 5.0

# An upload that no row names may belong to another database with the same bucket. No upload in work is this old.
_ABANDONED_AFTER: Final = timedelta(days=1)
_LIST_EVERY: Final = timedelta(hours=1)
_SWEPT_AT_ONCE: Final = 50

_LOCK_KEY: Final = "SELECT pg_advisory_xact_lock(hashtextextended('jobqueue upload ' || %(key)s, 0))"

_IS_BUILT_BY_ANOTHER: Final = """
SELECT EXISTS (SELECT FROM public.download_artifacts
               WHERE upload_key = %(key)s AND id <> %(id)s AND status = 'GENERATING'
                 AND lease_token IS NOT NULL AND lease_expires_at > now())
"""

_IS_NAMED: Final = """
SELECT EXISTS (SELECT FROM public.download_artifacts WHERE storage_key = %(key)s)
    OR EXISTS (SELECT FROM public.download_artifacts
               WHERE upload_key = %(key)s AND id <> %(id)s AND status = 'GENERATING')
"""

_NOTE_KEY: Final = "UPDATE public.download_artifacts SET upload_key = %(key)s, upload_id = NULL WHERE id = %(id)s"

_NOTE_ID: Final = "UPDATE public.download_artifacts SET upload_id = %(upload)s WHERE id = %(id)s"

_LIST_LEFT: Final = """
SELECT id, upload_key, upload_id FROM public.download_artifacts
WHERE upload_key IS NOT NULL AND status NOT IN ('PENDING', 'GENERATING')
LIMIT %(limit)s
"""

_FORGET_LEFT: Final = """
UPDATE public.download_artifacts SET upload_key = NULL, upload_id = NULL
WHERE id = %(id)s AND upload_key = %(key)s AND status NOT IN ('PENDING', 'GENERATING')
"""

_UPLOAD_IS_NAMED: Final = """
SELECT EXISTS (SELECT FROM public.download_artifacts WHERE upload_key = %(key)s AND upload_id = %(id)s)
"""


class Uploads:
    """What one attempt does about uploads: its own, and those of attempts before it."""

    def __init__(self, context: Context, objects: Objects) -> None:
        self._context = context
        self._objects = objects
        self._key: str | None = context.job.columns["upload_key"]
        self._id: str | None = context.job.columns["upload_id"]

    def note_key(self, key: str) -> None:
        """Note the key that this job is about to write to, after removing what an earlier attempt left behind.

        Raises Snooze while another job builds the very same artifact, and as `Context.write` and `Objects` do.
        """
        earlier = self._key
        if earlier is not None and earlier != key:
            self._clean(earlier)
        self._context.write(lambda cursor: self._note_key(cursor, key))
        if earlier == key:
            # Only the holder of the key gets here, so that whatever is unfinished under it belongs to nobody.
            remove_uploads(self._objects, key, self._id)
        self._key, self._id = key, None

    def note_id(self, upload_id: str) -> None:
        """Note the upload before its first part is sent, and abort others that were begun under the key.

        When the answer to a beginning is lost, the client begins again, and nobody knows the first upload. Raises as
        `Context.write` and `Objects` do.
        """
        self._context.write(lambda cursor: self._note_id(cursor, upload_id))
        self._id = upload_id
        assert self._key is not None
        for other in _unfinished_of(self._objects, self._key):
            if other != upload_id:
                abort(self._objects, self._key, other)

    def _note_id(self, cursor: psycopg.Cursor[Any], upload_id: str) -> None:
        cursor.execute(_NOTE_ID, {"upload": upload_id, "id": self._context.job.id})

    def _note_key(self, cursor: psycopg.Cursor[Any], key: str) -> None:
        params = {"key": key, "id": self._context.job.id}
        cursor.execute(_LOCK_KEY, params)
        if cursor.execute(_IS_BUILT_BY_ANOTHER, params).fetchone() == (True,):
            raise Snooze("another artifact is building the same archive", _TWIN_SECONDS)
        cursor.execute(_NOTE_KEY, params)

    def _clean(self, key: str) -> None:
        upload_id = self._id
        self._context.write(
            lambda cursor: remove_if_unnamed(cursor, self._objects, key, upload_id, self._context.job.id)
        )


def remove_uploads(objects: Objects, key: str, upload_id: str | None) -> None:
    """Abort the uploads of `key`: the one that is noted, and any that was begun and not yet noted."""
    if upload_id is not None:
        abort(objects, key, upload_id)
    for other in _unfinished_of(objects, key):
        abort(objects, key, other)


def _unfinished_of(objects: Objects, key: str) -> list[str]:
    """The ids of the unfinished uploads of just `key`; none where our key may not list them.

    The sweep asks for them, too, and its log says that it may not.
    """
    try:
        return [upload.id for upload in unfinished(objects, key) if upload.key == key]
    except AccessRefused:
        return []


def remove_if_unnamed(
    cursor: psycopg.Cursor[Any], objects: Objects, key: str, upload_id: str | None, artifact_id: Any
) -> None:
    """Remove what `artifact_id` left under `key`: its upload, and the object unless something names it."""
    params = {"key": key, "id": artifact_id}
    cursor.execute(_LOCK_KEY, params)
    if upload_id is not None:
        abort(objects, key, upload_id)
    if cursor.execute(_IS_BUILT_BY_ANOTHER, params).fetchone() == (False,):
        remove_uploads(objects, key, None)
    if cursor.execute(_IS_NAMED, params).fetchone() == (False,):
        objects.delete(key)


class _Left(NamedTuple):
    """The columns of _LIST_LEFT: what an artifact that is over still has noted."""

    artifact_id: Any
    upload_key: str
    upload_id: str | None


class Sweeper:
    """Removes what artifacts that are over left at the store. Its thread is its own, for the store may be slow."""

    def __init__(self, conninfo: str, objects: Objects) -> None:
        self._conninfo = conninfo
        self._objects = objects
        self._thread: threading.Thread | None = None
        self._listed_at = datetime.min.replace(tzinfo=UTC)

    def start(self, _link: Link) -> None:
        """Sweep in the background, unless a sweep is under way."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
            self._thread.start()

    def sweep(self) -> int:
        """Clean up after artifacts that are over, and once an hour abort what no row names. Returns how many it was.

        Raises psycopg.Error and as `Objects` does.
        """
        with connect(self._conninfo, "sweep") as connection:
            count = self._sweep_rows(connection)
            now = datetime.now(UTC)
            if now - self._listed_at >= _LIST_EVERY:
                self._listed_at = now
                count += self._sweep_store(connection, now - _ABANDONED_AFTER)
        return count

    def _run(self) -> None:
        try:
            if count := self.sweep():
                log.info("uploads_swept", count=count)
        except (psycopg.Error, JobError) as error:
            log.warning("upload_sweep_failed", error=str(error).strip())
        except Exception:
            log.exception("upload_sweep_failed")

    def _sweep_rows(self, connection: psycopg.Connection[Any]) -> int:
        rows = connection.execute(_LIST_LEFT, {"limit": _SWEPT_AT_ONCE}).fetchall()
        for left in map(_Left._make, rows):
            with connection.transaction(), connection.cursor() as cursor:
                remove_if_unnamed(cursor, self._objects, left.upload_key, left.upload_id, left.artifact_id)
                cursor.execute(_FORGET_LEFT, {"id": left.artifact_id, "key": left.upload_key})
        return len(rows)

    def _sweep_store(self, connection: psycopg.Connection[Any], before: datetime) -> int:
        """Abort uploads begun before `before` that no row names."""
        count = 0
        for upload in unfinished(self._objects, PREFIX):
            if upload.begun >= before:
                continue
            named = connection.execute(_UPLOAD_IS_NAMED, {"key": upload.key, "id": upload.id}).fetchone()
            if named == (False,):
                abort(self._objects, upload.key, upload.id)
                count += 1
        return count
