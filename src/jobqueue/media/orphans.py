"""No object is left that nothing names.

A job notes the prefix of its objects in its own row before it writes the first. An attempt finds another prefix there
when the source changed after an earlier attempt died between writing and naming. It removes those objects first, unless a
file or another job names them by now. It does the same for jobs of its file that ended before they named anything: a job
that lost its worker is cancelled when another is pending for the file by then.

Two files with the same bytes share their objects. So noting a prefix and removing one exclude each other, by an advisory
lock on the prefix: a job that notes it while it is being removed waits, and writes its objects after that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from jobqueue.kernel import Context
    from jobqueue.storage.objects import Objects

# Held by whoever notes a prefix or removes what is below it, to the end of the transaction.
LOCK_PREFIX: Final = "SELECT pg_advisory_xact_lock(hashtextextended('jobqueue prefix ' || %(prefix)s, 0))"

_NOTE_PREFIX: Final = "UPDATE public.publish_jobs SET key_prefix = %(prefix)s WHERE id = %(id)s"

_IS_NAMED: Final = """
SELECT EXISTS (SELECT FROM public.auction_files WHERE cdn_key_prefix = %(prefix)s)
    OR EXISTS (SELECT FROM public.publish_jobs
               WHERE status = 'processing' AND key_prefix = %(prefix)s AND id <> %(id)s)
"""

_FORGET_NOTES: Final = """
UPDATE public.publish_jobs SET key_prefix = NULL
WHERE file_id = %(file)s AND key_prefix = %(prefix)s AND status IN ('failed', 'cancelled')
"""


def note_prefix(context: Context, prefix: str, objects: Objects, left: Iterable[str] = ()) -> None:
    """Note the prefix that this job is about to put objects under, after removing what earlier attempts left elsewhere.

    `left` are the prefixes noted by jobs of the same file that ended without naming anything. Raises as `Context.write`
    and `Objects` do.
    """
    job = context.job
    noted: str | None = job.columns["key_prefix"]
    for earlier in {noted, *left} - {prefix}:
        if earlier is not None:
            _remove(context, earlier, objects)

    # Also when the row has this prefix already: somebody may be removing what is below it, and we wait for that.
    def note(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(LOCK_PREFIX, {"prefix": prefix})
        cursor.execute(_NOTE_PREFIX, {"prefix": prefix, "id": job.id})

    context.write(note)


def _remove(context: Context, prefix: str, objects: Objects) -> None:
    def remove(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(LOCK_PREFIX, {"prefix": prefix})
        if cursor.execute(_IS_NAMED, {"prefix": prefix, "id": context.job.id}).fetchone() == (False,):
            for key in list(objects.keys(f"{prefix}/")):
                objects.delete(key)
        cursor.execute(_FORGET_NOTES, {"prefix": prefix, "file": context.job.columns["file_id"]})

    context.write(remove)
