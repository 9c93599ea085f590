"""Archival: events and notifications older than the retention are copied to the object store and then deleted from their tables.

The two tables take turns, a batch at a time. One process at a time archives a table; nobody waits for it. With
ARCHIVE_BEFORE_DELETE=false rows are deleted without a copy. Without an object store and without that setting nothing is deleted,
and the run says so.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from prometheus_client import Counter
from psycopg import errors

from jobqueue.kernel.database.link import LOST
from jobqueue.observe.logging import get_logger
from jobqueue.retention.archive_batch import Batches, Unsettled
from jobqueue.retention.archive_ledger import Ledger, Lost
from jobqueue.retention.archive_session import Session
from jobqueue.retention.archive_tables import EVENTS, NOTIFICATIONS, DeletedRows, Place, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.observe.metrics import Metrics
    from jobqueue.retention.archive_ledger import Archive
    from jobqueue.retention.archive_store import ArchiveStore

log = get_logger(__name__)

LEASE_SECONDS: Final = 60.0
"""How long a process holds a table without a sign of life, in seconds. Every step of a batch is one."""

# Rows that one transaction deletes without a copy.
_MOST_DELETED: Final = 20_000

# These stop one batch and no other: somebody's lock, somebody's foreign key, a time limit.
_BLOCKED = (
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.IntegrityError,
    Unsettled,
)


@dataclass(slots=True)
class Archived:
    """What a run did: rows by table, and why it did not do more.

    `more`: time was up. `busy`: another process is archiving. `blocked`: so many batches wait for somebody's lock or foreign
    key, and a later run comes back to them. `refused`: why nothing may be deleted here.
    """

    retention_days: int
    archiving: bool = True
    rows: dict[str, int] = field(default_factory=lambda: {EVENTS: 0, NOTIFICATIONS: 0})
    more: bool = False
    busy: bool = False
    blocked: int = 0
    refused: str | None = None

    @property
    def message(self) -> str:
        """The same as a sentence or two."""
        if self.refused is not None:
            return self.refused
        did = "Archived" if self.archiving else "Deleted, without archiving,"
        said = [
            f"{did} {self.rows[EVENTS]} events and {self.rows[NOTIFICATIONS]} notifications older than {self.retention_days} days"
        ]
        if self.busy:
            said.append("another process is archiving now")
        if self.blocked:
            said.append(f"{self.blocked} batches are held up and will be come back to")
        if self.more:
            said.append("more are left for the next run")
        return "; ".join(said)


class Archival:
    """Archives what is older than `days`, in batches of `batch_size` rows, to `store`.

    Where `archive` is false it deletes without a copy; where it is true and `store` is None it refuses. Safe to run from
    several threads and processes at once.
    """

    def __init__(
        self,
        conninfo: str,
        store: ArchiveStore | None,
        metrics: Metrics,
        *,
        days: int,
        batch_size: int,
        archive: bool = True,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._conninfo = conninfo
        self._store = store if archive else None
        self._days = days
        self._batch = batch_size
        self._archive = archive
        self._lease = lease_seconds
        self._rows = Counter(
            "jobqueue_retention_rows",
            "Rows taken out of a table because they were older than the retention",
            ("table",),
            registry=metrics.registry,
        )
        for table in (EVENTS, NOTIFICATIONS):
            self._rows.labels(table)

    def begin(self) -> Archived:
        """What a run has done before it begins: nothing."""
        return Archived(self._days, self._archive)

    def run(self, proceed: Callable[[], bool], done: Archived | None = None) -> Archived:
        """Archive until nothing is left or `proceed()`, asked before each batch, says no; returns `done`.

        It brings `done` up to date after every batch; what it archived stays so when it ends early. Raises Permanent and Retry
        for what the store answers, psycopg.Error, and what `proceed` raises.
        """
        done = self.begin() if done is None else done
        with Session(self._conninfo) as session, ExitStack() as stack:
            tables = [_table(session, name) for name in (EVENTS, NOTIFICATIONS)]
            if self._archive and self._store is None:
                done.refused = self._refusal(session, tables)
                return done
            turns = [stack.enter_context(_Turns(self, session, table, done)) for table in tables]
            active = [turn for turn in turns if turn.held]
            done.busy = len(active) < len(turns)
            while active:
                for turn in list(active):
                    if not proceed():
                        done.more = True
                        active.clear()
                        break
                    if not turn.take():
                        active.remove(turn)
        log.info("retention_applied", **done.rows, archived=self._archive, more=done.more, blocked=done.blocked)
        return done

    def _refusal(self, session: Session, tables: list[Table]) -> str | None:
        """Say why nothing is deleted; None when there is nothing to delete anyway."""
        with session.transaction() as connection:
            old = [
                table.name for table in tables if connection.execute(table.any_old(self._days)).fetchone() == (True,)
            ]
        if not old:
            return None
        reason = (
            f"Rows of {' and '.join(old)} are older than {self._days} days and are kept, because there is no object store to "
            "archive them to: set the variables B2_*, or ARCHIVE_BEFORE_DELETE=false to delete them without a copy"
        )
        log.warning("archival_refused", reason=reason)
        return reason


class _Turns:
    """The turns of one table in one run. It holds the table while it is entered."""

    def __init__(self, archival: Archival, session: Session, table: Table, done: Archived) -> None:
        self._archival = archival
        self._session = session
        self._table = table
        self._done = done
        self._ledger = Ledger(session, table.name, f"{socket.gethostname()}:{os.getpid()}", archival._lease)
        store = archival._store
        self._batches = None if store is None else Batches(session, table, self._ledger, store)
        self._left: list[Archive] | None = None
        self._after: Place | None = None
        self.held = False

    def __enter__(self) -> Self:
        self.held = self._ledger.take()
        if self.held and self._table.held_by:
            log.info("archival_keeps_referenced", table=self._table.name, held_by=self._table.held_by)
        return self

    def __exit__(self, *_: object) -> None:
        if self.held:
            try:
                self._ledger.release()
            except LOST as error:
                # The lease ends by itself.
                log.debug("archival_not_released", table=self._table.name, error=str(error).strip())

    def take(self) -> bool:
        """Take one turn; returns whether there may be another."""
        try:
            if self._batches is None:
                return self._delete()
            if self._left is None:
                self._left = self._ledger.unfinished()
            if self._left:
                left = self._left.pop(0)
                self._after = left.last
                self._finish(self._batches, left, stored=False)
                return True
            archive = self._batches.store_next(self._archival._days, self._after, self._archival._batch)
            if archive is None:
                return False
            self._after = archive.last
            self._finish(self._batches, archive, stored=True)
        except Lost as lost:
            log.warning("archival_lost", table=self._table.name, reason=str(lost))
            self._done.busy = True
            return False
        return True

    def _finish(self, batches: Batches, archive: Archive, *, stored: bool) -> None:
        try:
            current = archive if stored else batches.store_left(archive)
            settled = None if current is None else batches.settle(current)
        except _BLOCKED as error:
            self._done.blocked += 1
            log.warning("archive_held_up", table=self._table.name, archive=archive.id, error=_sentence(error))
            return
        if settled is not None:
            self._count(settled.rows)
            log.info(
                "archived",
                table=self._table.name,
                rows=settled.rows,
                lines=settled.content.lines,
                size_bytes=settled.content.size_bytes,
                key=settled.key,
            )

    def _delete(self) -> bool:
        limit = min(self._archival._batch, _MOST_DELETED)
        query = self._table.delete_oldest(self._table.old(self._archival._days, self._after), limit)
        with self._session.transaction() as connection:
            self._ledger.hold()
            row = connection.execute(query).fetchone()
        if row is None:
            return False
        deleted = DeletedRows(*row)
        self._after = Place(deleted.at, deleted.id)
        self._count(deleted.number)
        return True

    def _count(self, rows: int) -> None:
        self._done.rows[self._table.name] += rows
        self._archival._rows.labels(self._table.name).inc(rows)


def _table(session: Session, name: str) -> Table:
    with session.transaction() as connection:
        return Table(connection, name)


def _sentence(error: Exception) -> str:
    primary: Any = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return primary or str(error)
