"""Connections for handlers' own transactions: each is lent to one at a time, tried first, and never waited on forever."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from jobqueue.database_session import DatabaseSession, cut, named

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds to wait for a connection, and then for its sign of life.
_WAIT = 5.0
_SIGN_OF_LIFE = 10.0

# Seconds after which an attempt to open a connection is given up: whoever asks next begins another, at once. The pool's own
# attempts become rarer the longer the database is away, and would come minutes after it is back.
_KEEP_TRYING = 2.0

# More connections than this are of no use: handlers' transactions are short.
_MOST = 8


class Transactions:
    """A pool that opens up to `size` connections as they are needed, but at least two and at most eight.

    Every transaction is READ COMMITTED: one that locks and then looks must see what was committed while it waited for the lock,
    and a role's or a database's default may be a snapshot that is older.

    Nothing is prepared: a host that alters a table beside a running worker would have the server refuse what was
    prepared before, and the handler whose statement that is would be charged with it.

    `cut_if_stuck` cuts the socket of a transaction that has not ended after `timeout` seconds: a peer that went silent never
    answers, and a handler would wait for it forever.
    """

    def __init__(self, conninfo: str, size: int, *, pooled: bool = False, timeout: float = 60.0) -> None:
        self._timeout = timeout
        self._pooled = pooled
        self._busy: dict[psycopg.Connection[Any], float] = {}
        self._pool: ConnectionPool[DatabaseSession] = ConnectionPool(
            named(conninfo, "handler"),
            connection_class=DatabaseSession,
            min_size=0,
            max_size=max(2, min(size, _MOST)),
            kwargs={"prepare_threshold": None},
            configure=self._configure,
            check=self._check,
            max_idle=60.0,
            reconnect_timeout=_KEEP_TRYING,
            open=False,
            name="jobqueue",
        )

    def open(self) -> None:
        """Begin to lend connections; returns at once, whether the database can be reached or not."""
        self._pool.open(wait=False)

    def close(self) -> None:
        self._pool.close(timeout=1.0)

    @contextmanager
    def begin(self) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
        """A cursor in a transaction that commits at the end of the block, or is rolled back when the block raises.

        Raises psycopg.OperationalError when no connection can be had or it is lost: nobody knows then whether a commit that was
        under way happened. Raises psycopg.errors.ReadOnlySqlTransaction when nothing can be written; nothing was.
        Raises psycopg.InternalError when a statement failed and the block passed over that, and when the block ended the
        transaction.
        """
        connection = self._pool.getconn(timeout=_WAIT)
        try:
            # A connection of a pool ends its transaction at the end of its block, and stays open.
            with self._watched(connection, self._timeout), connection, connection.cursor() as cursor:
                yield cursor
                _refuse_silence(connection)
        except psycopg.errors.ReadOnlySqlTransaction:
            # A session keeps what it began with, and another server may be the one that takes writes now.
            connection.close()
            raise
        finally:
            self._pool.putconn(connection)

    def cut_if_stuck(self, now: float) -> bool:
        """Shut down the sockets of transactions that have taken too long; returns whether there were any. For another thread."""
        stuck = [connection for connection, until in list(self._busy.items()) if now >= until]
        for connection in stuck:
            cut(connection)
        return bool(stuck)

    def _configure(self, connection: DatabaseSession) -> None:
        with self._watched(connection, min(self._timeout, _SIGN_OF_LIFE)):
            connection.settle(pooled=self._pooled)

    def _check(self, connection: DatabaseSession) -> None:
        with self._watched(connection, min(self._timeout, _SIGN_OF_LIFE)):
            ConnectionPool.check_connection(connection)

    @contextmanager
    def _watched(self, connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
        self._busy[connection] = time.monotonic() + seconds
        try:
            yield
        finally:
            self._busy.pop(connection, None)


def _refuse_silence(connection: psycopg.Connection[Any]) -> None:
    """Raise where the driver's COMMIT would silently do nothing."""
    match connection.info.transaction_status:
        case TransactionStatus.UNKNOWN:
            raise psycopg.OperationalError("the connection was lost, and that was passed over")
        case TransactionStatus.INERROR:
            raise psycopg.InternalError(
                "a statement failed and that was passed over: the transaction cannot be committed"
            )
        case TransactionStatus.IDLE:
            raise psycopg.InternalError("the transaction was ended within its block: nobody knows what of it is left")
