"""Attaching files and following their publication, as a host would by SQL."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jobqueue.cli.command_failures import failed
from jobqueue.kernel.database.limited import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from jobqueue.admin.selection import Adopted
    from jobqueue.kernel.database.limited import Connection

# Seconds: for one statement, and between two looks at how things go.
_LIMIT = 30.0
_GLANCE = 0.25

# What the trigger that coalesces jobs (sql/0001_kernel.sql) writes into the one that gives way.
_COALESCED = re.compile(r"coalesced into job ([0-9a-f-]+),")

_OPEN = ("pending", "processing")


@dataclass(slots=True)
class Publication:
    """One file on its way. `reused`: the file was there already; `coalesced`: so was a pending job for it."""

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

    Raises Stop when the host's table asks for more than is known here; nothing is then inserted.
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
    run = _StatementRunner(connection)
    run("lock_publishing")
    there = dict(run("find_files", keys=list(keys), group=group))
    missing = [key for key in keys if key not in there]
    names = [key.rstrip("/").rpartition("/")[2] for key in missing]
    made = dict(run("insert_files", keys=missing, names=names, group=group)) if missing else {}
    file_ids = [(there | made)[key] for key in keys]
    words = {state: queue.word(state) for state in _OPEN}
    jobs = dict(
        run("queue_files", files=file_ids, priority=priority, max_retries=max_retries, pending=words["pending"])
    )
    coalesced = [file_id for file_id in file_ids if file_id not in jobs]
    if coalesced:
        jobs |= dict(run("find_publish_jobs", files=coalesced, **words))
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
    """Wait until every publication has ended, or for `timeout` seconds; `on_progress` is told how many have."""
    deadline = time.monotonic() + timeout
    while True:
        _look(connection, queue, [each for each in publications if each.open])
        ended = sum(not each.open for each in publications)
        on_progress(ended)
        if ended == len(publications) or time.monotonic() >= deadline:
            return
        time.sleep(min(_GLANCE, max(0.0, deadline - time.monotonic())))


def _look(connection: Connection, queue: Adopted, publications: Sequence[Publication]) -> None:
    run = _StatementRunner(connection)
    rows = {row[0]: row[1:] for row in run("watch_files", jobs=[each.job_id for each in publications])}
    for each in publications:
        if each.job_id not in rows:
            each.status, each.error_message = "deleted", "the job or its file was deleted meanwhile"
            continue
        word, each.error_message, each.thumb_url, each.display_url = rows[each.job_id]
        each.status = queue.state(word) or word
        # A job that comes back while another for its file is pending ends in favour of that one.
        if each.status == "cancelled" and (successor := _COALESCED.match(each.error_message or "")):
            each.job_id, each.status, each.coalesced = type(each.job_id)(successor[1]), "pending", True


class _StatementRunner:
    """Runs the statements of sql/ by name."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, name: str, **params: Any) -> list[tuple[Any, ...]]:
        return fetch(self._connection, _statement(name), params, seconds=_LIMIT)


@cache
def _statement(name: str) -> bytes:
    return (files("jobqueue.cli") / "sql" / f"{name}.sql").read_bytes()
