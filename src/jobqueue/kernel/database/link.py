"""One connection of one loop: opened when needed, reopened after a loss, never waited on forever."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import errors
from psycopg.adapt import Loader

from jobqueue.database_session import DatabaseSession, cut, named
from jobqueue.kernel.database.prepared import Prepared
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.abc import Buffer

log = get_logger(__name__)

# Seconds between two looks at a link that is watched.
_GLANCE = 0.25

# What a loop answers with patience: the server is away, restarts, has closed this connection, or takes no writes, as one does
# that was demoted, that is a standby still, or whose disk is full.
LOST = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)

# What a transaction pooler answers when a prepared statement reached another server connection.
_POOLED = (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)


# The kernel's statements take rows by an index, in its order. While a table is small the planner would rather read and sort all
# of it, and would keep that plan until somebody analyzes the table when it has become large.
BY_INDEX = b"SELECT set_config(name, 'off', false) FROM unnest('{enable_seqscan,enable_bitmapscan,enable_sort}'::text[]) AS name"


# Who answers no more may still be at work for us on the server, and hold rows locked: it waits for somebody's lock, say, and does
# not look whether we are there. One that waits for a standby has committed what it wrote, and may not be ended: it would say to
# all that its commit is safe.
_END_ABANDONED = b"""
SELECT coalesce(wait_event = 'SyncRep', false),
       CASE WHEN wait_event IS DISTINCT FROM 'SyncRep' THEN pg_terminate_backend(pid) END
FROM pg_stat_activity
WHERE pid = %(pid)s AND pid <> pg_backend_pid() AND usename = session_user
  AND application_name = current_setting('application_name')
  AND backend_start < clock_timestamp() - make_interval(secs => %(age)s)
"""


class _Abandoned(NamedTuple):
    """A session that was cut: its process on the server, and when it was there already, in time.monotonic()."""

    pid: int
    opened_at: float


class _Jsonb(Loader):
    """Payloads come with every job, and the standard loader guesses at an encoding that is known."""

    _decode = staticmethod(json.JSONDecoder().raw_decode)

    def load(self, data: Buffer) -> Any:
        return self._decode(str(data, "utf-8"))[0]


class Link:
    """An autocommit connection without session state, for one thread. `name` shows as its application_name.

    Every statement is a READ COMMITTED transaction with the settings of a DatabaseSession, whatever the database's own are.

    `prepare` is off behind a transaction pooler. `by_index` is for statements that find their rows by an index: it keeps the
    planner from other ways, where the session is ours. `cut_if_stuck` cuts the socket when a statement gets no answer for
    `timeout` seconds: a peer that went silent never answers at all.
    """

    def __init__(
        self, conninfo: str, name: str, *, prepare: bool = True, by_index: bool = False, timeout: float = 30.0
    ) -> None:
        self._conninfo = named(conninfo, name)
        self._prepare = prepare
        self._by_index = by_index
        self._timeout = timeout
        self._connection: DatabaseSession | None = None
        self._prepared: Prepared | None = None
        self._busy_since: float | None = None
        self._abandoned: list[_Abandoned] = []
        self._opened_at = 0.0
        self.opened = 0
        # Statements that the server answered so far.
        self.answered = 0

    def connection(self) -> DatabaseSession:
        """The open connection.

        Raises psycopg.OperationalError when the server cannot be reached, ReadOnlySqlTransaction when it takes no writes.
        """
        if self._connection is None or self._connection.closed:
            connection = DatabaseSession.open(self._conninfo, prepare_threshold=1)
            connection.adapters.register_loader("jsonb", _Jsonb)
            # A connection can fall silent before its first answer: watch it from here on.
            self._connection, self._busy_since = connection, time.monotonic()
            try:
                self._prepare_session(connection)
                _refuse_read_only(connection)
            except BaseException:
                self.close()
                raise
            finally:
                self._busy_since = None
            self.opened += 1
            self._opened_at = time.monotonic()
        if self._abandoned and self._connection.ours:
            self._end_abandoned(self._connection)
        return self._connection

    def _end_abandoned(self, connection: DatabaseSession) -> None:
        """End the sessions that were cut in the midst of a statement, where the server has not done so.

        Each would be followed by another that waits as it does, until the server has no connections left. Raises
        psycopg.OperationalError while one of them waits for a synchronous standby, as whatever we wrote now would.
        """
        self._busy_since = time.monotonic()
        try:
            for session in list(self._abandoned):
                # On a server that took the other's place the number is another's, who has not been there for so long.
                params = {"pid": session.pid, "age": time.monotonic() - session.opened_at}
                found = connection.execute(_END_ABANDONED, params, prepare=False).fetchall()
                if any(waits for waits, _ in found):
                    raise psycopg.OperationalError("a commit waits for a synchronous standby that does not answer")
                self._abandoned.remove(session)
        finally:
            self._busy_since = None

    def _prepare_session(self, connection: DatabaseSession) -> None:
        connection.settle(pooled=not self._prepare)
        self._prepared = None
        if connection.ours:
            if self._by_index:
                connection.execute(BY_INDEX, prepare=False)
            self._prepared = Prepared(connection)

    def fetch(self, query: bytes, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement in its own transaction and return its rows.

        Raises psycopg.OperationalError or InterfaceError when the connection is lost: nobody knows then whether the statement
        was committed. Raises psycopg.errors.ReadOnlySqlTransaction when the server takes no writes, whatever the statement.
        """
        try:
            return self._fetch(query, params)
        except _POOLED:
            self._prepare = False
            self.close()
            return self._fetch(query, params)

    def _fetch(self, query: bytes, params: dict[str, Any] | None) -> list[tuple[Any, ...]]:
        connection = self.connection()
        self._busy_since = time.monotonic()
        try:
            # One that only reads would stay with a server that was demoted, and see nothing of the one that took its place.
            _refuse_read_only(connection)
            rows = self._run(connection, query, params or {})
            self.answered += 1
            return rows
        except errors.ReadOnlySqlTransaction:
            # A session keeps what it began with, and another server may be the one that takes writes now.
            self.close()
            raise
        except BaseException:
            if connection.closed or connection.broken:
                self.close()
            raise
        finally:
            self._busy_since = None

    def _run(self, connection: DatabaseSession, query: bytes, params: dict[str, Any]) -> list[tuple[Any, ...]]:
        if self._prepared is not None:
            return self._prepared.fetch(query, params)
        # Parameters even where there are none: every statement is read the same way, %% being a percent sign.
        cursor = connection.execute(query, params)
        return cursor.fetchall() if cursor.description else []

    def cut_if_stuck(self, now: float) -> bool:
        """Shut the socket down when a statement has had no answer for the timeout; returns whether. For another thread."""
        since, connection = self._busy_since, self._connection
        if since is None or connection is None or now - since < self._timeout:
            return False
        session = _Abandoned(connection.info.backend_pid, self._opened_at)
        # A connection that is cut before it is known whose it is has asked for nothing that lasts.
        if connection.ours and session not in self._abandoned:
            self._abandoned.append(session)
        cut(connection)
        return True

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


def _refuse_read_only(connection: DatabaseSession) -> None:
    if reason := connection.refuses_writes:
        raise errors.ReadOnlySqlTransaction(f"the session is read-only ({reason})")


@contextmanager
def watched(link: Link) -> Iterator[Link]:
    """Cut the link's connection when a statement gets no answer for its timeout, for as long as the block takes; then close it.

    A loop's link is watched with those of the others. This is for one that is used by itself.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_GLANCE):
            if link.cut_if_stuck(time.monotonic()):
                log.warning("connection_cut", reason="no answer in time")

    threading.Thread(target=watch, name="jobqueue-link-watch", daemon=True).start()
    try:
        yield link
    finally:
        ended.set()
        link.close()
