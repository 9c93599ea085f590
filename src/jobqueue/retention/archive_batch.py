"""Makes one archive: its rows are sealed, stored, read back, and only then deleted.

Seal: the rows are read into a temporary file; the ledger gets their first place, their last place and their digest. Store: the
file is written under a key made of the digest, and read back. Settle: one transaction locks the rows, reads them again,
deletes them if their digest is still the one that was stored, and records that. A process that dies between two
of these steps leaves the record behind, and the next run goes on from there. Rows that changed meanwhile are stored anew, and
the object that held them before is removed.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, cast

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from jobqueue.errors import Retry
from jobqueue.observe.logging import get_logger
from jobqueue.retention.archive_format import Content, Digest, Writer
from jobqueue.retention.archive_tables import Line, Place, Table
from jobqueue.storage.store_failures import AccessRefused

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg import sql

    from jobqueue.retention.archive_ledger import Archive, Ledger
    from jobqueue.retention.archive_session import Connection, Session
    from jobqueue.retention.archive_store import ArchiveStore

log = get_logger(__name__)

MOST_BYTES: Final = 256 * 1024 * 1024
"""Bytes of lines, before compression, after which an archive is closed at the end of a row."""

SEAL_SECONDS: Final = 6.0
"""Seconds of reading after which an archive is closed: a run that is asked for over HTTP must answer in time."""

_ATTEMPTS: Final = 3


class Unsettled(Exception):
    """The rows change faster than they can be stored. They are left for the next run."""


class _Crossed(Exception):
    """Other rows were deleted than were stored: the transaction is undone."""


@dataclass(frozen=True, slots=True)
class _Read:
    """The rows that an archive got: the places of the first and the last, None without rows, and how many there were."""

    first: Place | None
    last: Place | None
    rows: int
    content: Content


class Batches:
    """Makes archives of one table. Raises Lost when somebody else has the table, psycopg.Error, and what the store raises."""

    def __init__(self, session: Session, table: Table, ledger: Ledger, store: ArchiveStore) -> None:
        self._session = session
        self._table = table
        self._ledger = ledger
        self._store = store

    def store_next(self, days: int, after: Place | None, limit: int) -> Archive | None:
        """Store up to `limit` rows older than `days` that come after `after`; None when there are none.

        Rows that belong to another count too; they always go into the archive of that other row.
        """
        with tempfile.TemporaryFile() as file:
            read = self._spool(file, self._table.old(days, after), limit)
            if read.first is None or read.last is None:
                return None
            archive = self._ledger.seal(read.first, read.last, read.rows, read.content)
            self._put(archive, file)
        return archive

    def store_left(self, archive: Archive) -> Archive | None:
        """Store what an earlier run left, unless it is stored; None when somebody else has deleted its rows."""
        current = self._remove_stale(archive)
        if current is None or self._is_stored(current):
            return current
        return self._store_again(current)

    def settle(self, archive: Archive) -> Archive | None:
        """Delete the rows of a stored archive; returns the archive as it is then, None when its rows were gone.

        Rows that changed since they were stored are stored anew. Raises Unsettled when they change again and again.
        """
        current: Archive | None = archive
        attempts = Retrying(retry=retry_if_exception_type(Unsettled), stop=stop_after_attempt(_ATTEMPTS), reraise=True)
        for attempt in attempts:
            with attempt:
                if current is not None and not self._delete(current):
                    current = self._store_again(current)
                    raise Unsettled(f"rows of {self._table.name} change again and again while they are archived")
        return current

    def _is_stored(self, archive: Archive) -> bool:
        """Whether the store has the archive, as far as it tells us: if not, it is written again, and read back."""
        try:
            return self._store.holds(archive.key, archive.content)
        except AccessRefused:
            # So a store answers for what is not there when our key may not list.
            return False

    def _spool(self, file: IO[bytes], these: sql.Composable, limit: int | None) -> _Read:
        """Read rows and what belongs to them into an archive in `file`. With a `limit` it may close before the rows end."""
        first: Place | None = None
        last: Place | None = None
        rows = 0
        until = time.monotonic() + SEAL_SECONDS
        query = self._table.lines(these, limit)
        with self._session.transaction(discard=True) as connection, Writer(file) as writer:
            digest = writer.digest
            # Closing calls off the rest of the answer where it is not read to its end.
            with closing(cast("Generator[tuple[Any, ...]]", connection.cursor().stream(query))) as found:
                for line in map(Line._make, found):
                    if line.table == 0:
                        full = (
                            digest.lines >= (limit or 0) or time.monotonic() > until or digest.size_bytes >= MOST_BYTES
                        )
                        if limit is not None and full and last is not None:
                            break
                        last = Place(line.at, line.id)
                        first = first or last
                        rows += 1
                    writer.add(self._table.names[line.table], line.row)
        return _Read(first, last, rows, digest.content)

    def _put(self, archive: Archive, file: IO[bytes]) -> None:
        self._ledger.hold()
        self._store.write(archive.key, file)
        if not self._store.holds(archive.key, archive.content):
            raise Retry(f"the store gave back other bytes than were written to {archive.key}; its rows are kept")
        self._ledger.stored(archive)

    def _store_again(self, archive: Archive) -> Archive | None:
        """Store the rows as they are now; None when none is left."""
        with tempfile.TemporaryFile() as file:
            read = self._spool(file, self._table.between(archive.first, archive.last), None)
            if read.content != archive.content:
                log.info("archive_changed", table=self._table.name, archive=archive.id, rows=read.rows)
                archive = self._ledger.reseal(archive, read.rows, read.content)
                # The object that was written before holds rows that somebody has changed or deleted since.
                kept = self._remove_stale(archive)
                if kept is None:
                    return None
                archive = kept
            self._put(archive, file)
        return archive

    def _remove_stale(self, archive: Archive) -> Archive | None:
        """Remove the object that holds the rows as they were before; None, without a record, when no row is left."""
        if archive.stale_key is not None:
            if archive.stale_key != archive.key and not self._ledger.named_elsewhere(archive, archive.stale_key):
                self._store.delete(archive.stale_key)
            archive = self._ledger.forget_stale(archive)
        if archive.rows == 0:
            self._ledger.drop(archive)
            return None
        return archive

    def _delete(self, archive: Archive) -> bool:
        """Delete the rows and record that, in one transaction; False when they are not those that were stored."""
        these = self._table.between(archive.first, archive.last)
        try:
            with self._session.transaction() as connection:
                self._ledger.hold()
                for lock in self._table.locks(these):
                    connection.execute(lock)
                if self._digest(connection, these) != archive.content:
                    return False
                deleted = [connection.execute(delete).rowcount for delete in self._table.deletes(these)]
                # A row with a time of long ago that was written after the others were read makes one more.
                if (deleted[-1], sum(deleted)) != (archive.rows, archive.content.lines):
                    raise _Crossed
                self._ledger.deleted(archive)
        except _Crossed:
            return False
        return True

    def _digest(self, connection: Connection, these: sql.Composable) -> Content:
        digest = Digest()
        for line in map(Line._make, connection.cursor().stream(self._table.lines(these))):
            digest.add(self._table.names[line.table], line.row)
        return digest.content
