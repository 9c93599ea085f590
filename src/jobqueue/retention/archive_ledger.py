"""The ledger of archival in the database: who archives a table, and which archives are not finished."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from jobqueue.retention.archive_format import Content, object_key
from jobqueue.retention.archive_tables import Place

if TYPE_CHECKING:
    from jobqueue.retention.archive_session import Session

_TAKE: Final = b"""
UPDATE jobqueue.archivals SET token = %(token)s, held_by = %(holder)s,
    held_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE table_name = (SELECT table_name FROM jobqueue.archivals
                    WHERE table_name = %(table)s AND held_until <= clock_timestamp() FOR UPDATE SKIP LOCKED)
RETURNING table_name"""

_RENEW: Final = b"""
UPDATE jobqueue.archivals SET held_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE table_name = %(table)s AND token = %(token)s RETURNING table_name"""

_RELEASE: Final = b"""
UPDATE jobqueue.archivals SET token = NULL, held_by = NULL, held_until = '-infinity'
WHERE table_name = %(table)s AND token = %(token)s"""

# out: the columns of Archive, `first` and `last` as two columns each, and `content` as three.
_UNFINISHED: Final = b"""
SELECT id, first_at::text, first_id, last_at::text, last_id, row_count, line_count, size_bytes, sha256, object_key, stale_key
FROM jobqueue.archives WHERE table_name = %(table)s AND deleted_at IS NULL ORDER BY id"""

_SEAL: Final = b"""
INSERT INTO jobqueue.archives (table_name, first_at, first_id, last_at, last_id, row_count, line_count, size_bytes, sha256, object_key)
VALUES (%(table)s, %(first_at)s::timestamptz, %(first_id)s, %(last_at)s::timestamptz, %(last_id)s,
        %(rows)s, %(lines)s, %(size)s, %(sha256)s, %(key)s)
RETURNING id"""

_RESEAL: Final = b"""
UPDATE jobqueue.archives SET row_count = %(rows)s, line_count = %(lines)s, size_bytes = %(size)s, sha256 = %(sha256)s,
    stale_key = object_key, object_key = %(key)s, sealed_at = clock_timestamp(), stored_at = NULL
WHERE id = %(id)s"""

_NAMED: Final = b"SELECT EXISTS (SELECT FROM jobqueue.archives WHERE object_key = %(key)s AND id <> %(id)s)"
_FORGET_STALE: Final = b"UPDATE jobqueue.archives SET stale_key = NULL WHERE id = %(id)s"
_STORED: Final = b"UPDATE jobqueue.archives SET stored_at = clock_timestamp() WHERE id = %(id)s"
_DELETED: Final = (
    b"UPDATE jobqueue.archives SET deleted_at = clock_timestamp() WHERE id = %(id)s AND deleted_at IS NULL"
)
_DROP: Final = b"DELETE FROM jobqueue.archives WHERE id = %(id)s"


class Lost(Exception):
    """Somebody else archives this table now."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that is recorded and whose rows are not deleted yet.

    `rows` counts those of the table itself. `stale_key` names an object that holds the rows as they were before.
    """

    id: int
    first: Place
    last: Place
    rows: int
    content: Content
    key: str
    stale_key: str | None = None


class Ledger:
    """The records of one table that this process holds. Each method is one transaction, or a part of the one that is open.

    Every method but `take` and `release` raises Lost when somebody else has the table.
    """

    def __init__(self, session: Session, table: str, holder: str, lease_seconds: float) -> None:
        self._session = session
        self._table = table
        self._token: UUID = uuid4()
        self._params = {"table": table, "token": self._token, "holder": holder, "lease": lease_seconds}

    def take(self) -> bool:
        """Take the table for the time of the lease; returns whether nobody else had it."""
        with self._session.transaction() as connection:
            return connection.execute(_TAKE, self._params).fetchone() is not None

    def release(self) -> None:
        """Give the table back."""
        with self._session.transaction() as connection:
            connection.execute(_RELEASE, self._params)

    def hold(self) -> None:
        """Extend the lease. Until the transaction that does so has ended, nobody else can take the table."""
        with self._session.transaction() as connection:
            if connection.execute(_RENEW, self._params).fetchone() is None:
                raise Lost(f"another process is archiving {self._table} now")

    def unfinished(self) -> list[Archive]:
        """The archives that earlier runs left, in order."""
        with self._session.transaction() as connection:
            self.hold()
            rows = connection.execute(_UNFINISHED, self._params).fetchall()
        return [
            Archive(id_, Place(first_at, first_id), Place(last_at, last_id), count, Content(*content), key, stale_key)
            for id_, first_at, first_id, last_at, last_id, count, *content, key, stale_key in rows
        ]

    def seal(self, first: Place, last: Place, rows: int, content: Content) -> Archive:
        """Record an archive before it is written."""
        key = object_key(self._table, first.at, content)
        bounds = {"first_at": first.at, "first_id": first.id, "last_at": last.at, "last_id": last.id}
        with self._session.transaction() as connection:
            self.hold()
            row = connection.execute(_SEAL, {**self._params, **bounds, **_facts(rows, content, key)}).fetchone()
        assert row is not None
        return Archive(row[0], first, last, rows, content, key)

    def reseal(self, archive: Archive, rows: int, content: Content) -> Archive:
        """Record that other rows are there now than were written. The object `stale_key` of the archive is to be removed."""
        key = object_key(self._table, archive.first.at, content)
        with self._session.transaction() as connection:
            self.hold()
            connection.execute(_RESEAL, {"id": archive.id, **_facts(rows, content, key)})
        return replace(archive, rows=rows, content=content, key=key, stale_key=archive.key)

    def named_elsewhere(self, archive: Archive, key: str) -> bool:
        """Whether another archive lies in the object `key`: its rows were the same to the last bit."""
        with self._session.transaction() as connection:
            return connection.execute(_NAMED, {"id": archive.id, "key": key}).fetchone() == (True,)

    def forget_stale(self, archive: Archive) -> Archive:
        """Record that the stale object is gone."""
        self._write(_FORGET_STALE, archive)
        return replace(archive, stale_key=None)

    def stored(self, archive: Archive) -> None:
        """Record that the object has been read back."""
        self._write(_STORED, archive)

    def deleted(self, archive: Archive) -> None:
        """Record that the rows are deleted, in the transaction that deletes them."""
        self._write(_DELETED, archive)

    def drop(self, archive: Archive) -> None:
        """Forget an archive whose rows somebody else has deleted."""
        self._write(_DROP, archive)

    def _write(self, statement: bytes, archive: Archive) -> None:
        with self._session.transaction() as connection:
            self.hold()
            if connection.execute(statement, {"id": archive.id}).rowcount != 1:
                raise Lost(f"another process has finished the archive {archive.id} of {self._table}")


def _facts(rows: int, content: Content, key: str) -> dict[str, Any]:
    return {
        "rows": rows, "lines": content.lines, "size": content.size_bytes, "sha256": content.sha256, "key": key,
    }  # fmt: skip
