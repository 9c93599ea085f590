"""Attaches files and follows their publication by plain SQL, as a host would."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from jobqueue.cli.command_failures import failed
from jobqueue.kernel.database.limited import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from jobqueue.admin.selection import Adopted
    from jobqueue.kernel.database.limited import Connection

# Seconds that one statement may take, and seconds between two looks at how things go.
_LIMIT = 30.0
_GLANCE = 0.25

# What the trigger that coalesces jobs (sql/0011_coalescing.sql) and a merge (kernel/sql/merge_twins.sql) write into the one
# that gives way.
_COALESCED = re.compile(r"coalesced into job ([0-9a-f-]+),")

_OPEN = ("pending", "processing")

# One publisher of the command line at a time until the transaction ends: two must not attach the same key twice.
_LOCK_PUBLISHING = b"SELECT pg_advisory_xact_lock(hashtextextended('jobqueue publish', 0))"

# Files that are there already, not deleted, the oldest of each key. in: keys, group (NULL: any). out: _AttachedFile.
_FIND_FILES = b"""
SELECT DISTINCT ON (f.source_key) f.source_key, f.id
FROM public.auction_files AS f
WHERE f.source_key = ANY (%(keys)s) AND f.deleted_at IS NULL AND f.publish_status <> 'deleted'
  AND (%(group)s::uuid IS NULL OR f.asset_group_id = %(group)s::uuid)
ORDER BY f.source_key, f.created_at, f.id
"""

# Attaches files. in: keys, names (pairs), group. out: _AttachedFile.
_INSERT_FILES = b"""
INSERT INTO public.auction_files (source_key, original_name, asset_group_id)
SELECT file.key, file.name, %(group)s::uuid
FROM unnest(%(keys)s::text[], %(names)s::text[]) AS file (key, name)
RETURNING source_key, id
"""

# Asks for files to be published. in: files, pending (the queue's word), priority, max_retries.
# out: _FileJob; a file whose job is pending already has no row, because the second job becomes the first.
_QUEUE_FILES = b"""
INSERT INTO public.publish_jobs (file_id, status, priority, max_retries)
SELECT file_id, %(pending)s, %(priority)s, %(max_retries)s
FROM unnest(%(files)s::uuid[]) AS file_id
RETURNING file_id, id
"""

# The job that will publish, is publishing, or was the last to publish each file.
# in: files, pending, processing (the queue's words). out: _FileJob. Plan: the index on file_id.
_FIND_PUBLISH_JOBS = b"""
SELECT DISTINCT ON (j.file_id) j.file_id, j.id
FROM public.publish_jobs AS j
WHERE j.file_id = ANY (%(files)s::uuid[])
ORDER BY j.file_id, j.status = %(pending)s DESC, j.status = %(processing)s DESC, j.created_at DESC
"""

# How the publishing of files goes. in: jobs. out: _PublishState. Plan: the primary keys.
_WATCH_FILES = b"""
SELECT j.id, j.status, j.error_message, f.thumb_url, f.display_url
FROM public.publish_jobs AS j
JOIN public.auction_files AS f ON f.id = j.file_id
WHERE j.id = ANY (%(jobs)s)
"""


class _AttachedFile(NamedTuple):
    source_key: str
    id: UUID


class _FileJob(NamedTuple):
    file_id: UUID
    job_id: Any


class _PublishState(NamedTuple):
    """A job as its row has it, `status` in the queue's own word, with the URLs of its file."""

    job_id: Any
    status: str
    error_message: str | None
    thumb_url: str | None
    display_url: str | None


@dataclass(slots=True)
class Publication:
    """One file on its way. `reused` when the file was there already, `coalesced` when a pending job for it was."""

    source_key: str
    file_id: UUID
    job_id: Any
    reused: bool
    coalesced: bool
    status: str = "pending"
    error_message: str | None = None
    thumb_url: str | None = None
    display_url: str | None = None

    @property
    def open(self) -> bool:
        return self.status in _OPEN


def attach(
    connection: Connection,
    queue: Adopted,
    keys: Sequence[str],
    *,
    group: UUID | None,
    priority: int,
    max_retries: int,
) -> list[Publication]:
    """Insert files and their jobs in one transaction. `keys` are distinct and have been checked.

    Raises Stop, and inserts nothing, when the host's table needs a value that this command does not know.
    """
    from psycopg import errors

    try:
        with connection.transaction():
            return _attach(connection, queue, keys, group=group, priority=priority, max_retries=max_retries)
    except errors.NotNullViolation as error:
        column = error.diag.column_name
        hint = "give it with --group" if column == "asset_group_id" and group is None else "insert the file by SQL"
        raise failed(f"this database does not take a file without {column}: {hint}") from None
    except errors.IntegrityError as error:
        raise failed(f"this database does not take these files: {error.diag.message_primary}") from None


def _attach(
    connection: Connection, queue: Adopted, keys: Sequence[str], *, group: UUID | None, priority: int, max_retries: int
) -> list[Publication]:
    words = {state: queue.word(state) for state in _OPEN}

    def find(statement: bytes, **params: Any) -> dict[str, UUID]:
        rows = map(_AttachedFile._make, _fetch(connection, statement, group=group, **params))
        return {file.source_key: file.id for file in rows}

    def jobs_of(statement: bytes, files: Sequence[UUID], **params: Any) -> dict[UUID, Any]:
        rows = map(_FileJob._make, _fetch(connection, statement, files=files, **words, **params))
        return {job.file_id: job.job_id for job in rows}

    _fetch(connection, _LOCK_PUBLISHING)
    there = find(_FIND_FILES, keys=list(keys))
    missing = [key for key in keys if key not in there]
    names = [key.rstrip("/").rpartition("/")[2] for key in missing]
    made = find(_INSERT_FILES, keys=missing, names=names) if missing else {}
    file_ids = [(there | made)[key] for key in keys]
    jobs = jobs_of(_QUEUE_FILES, file_ids, priority=priority, max_retries=max_retries)
    coalesced = [file_id for file_id in file_ids if file_id not in jobs]
    if coalesced:
        jobs |= jobs_of(_FIND_PUBLISH_JOBS, coalesced)
    return [
        Publication(key, file_id, jobs[file_id], reused=key in there, coalesced=file_id in coalesced)
        for key, file_id in zip(keys, file_ids, strict=True)
    ]


def follow(
    connection: Connection,
    queue: Adopted,
    publications: Sequence[Publication],
    *,
    timeout: float,
    on_progress: Callable[[int], object] = lambda _ended: None,
) -> None:
    """Wait until every publication has ended, or for `timeout` seconds; call `on_progress` with how many have."""
    deadline = time.monotonic() + timeout
    while True:
        _look(connection, queue, [each for each in publications if each.open])
        ended = sum(not each.open for each in publications)
        on_progress(ended)
        if ended == len(publications) or time.monotonic() >= deadline:
            return
        time.sleep(min(_GLANCE, max(0.0, deadline - time.monotonic())))


def _look(connection: Connection, queue: Adopted, publications: Sequence[Publication]) -> None:
    rows = _fetch(connection, _WATCH_FILES, jobs=[each.job_id for each in publications])
    states = {state.job_id: state for state in map(_PublishState._make, rows)}
    for each in publications:
        state = states.get(each.job_id)
        if state is None:
            each.status, each.error_message = "deleted", "the job or its file was deleted meanwhile"
            continue
        each.status = queue.state(state.status) or state.status
        each.error_message = state.error_message
        each.thumb_url, each.display_url = state.thumb_url, state.display_url
        # A job that comes back while another for its file is pending ends in favour of that one.
        if each.status == "cancelled" and (successor := _COALESCED.match(each.error_message or "")):
            each.job_id, each.status, each.coalesced = type(each.job_id)(successor[1]), "pending", True


def _fetch(connection: Connection, statement: bytes, **params: Any) -> list[tuple[Any, ...]]:
    return fetch(connection, statement, params, seconds=_LIMIT)
