"""Databases whose transactions are not READ COMMITTED unless they say so, and somebody who is ahead at a lock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import IsolationLevel, sql
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = ("repeatable read", "serializable")

_WAITED_FOR = b"""
SELECT 1 FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted"""


@contextmanager
def default_isolation(dsn: str, level: str) -> Iterator[None]:
    """Sessions of the database that are opened meanwhile have `level` for their transactions."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = {}").format(name, sql.Literal(level))
        )
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_isolation").format(name))


@contextmanager
def ahead(dsn: str, lock: str, write: str, **params: object) -> Iterator[None]:
    """Somebody has taken the advisory lock of the statement `lock`, does `write` once another waits for it, and commits.

    Raises AssertionError when nobody has come to wait.
    """

    def write_when_waited_for() -> None:
        # Ends the transaction, and lets go of the lock, whatever happens.
        with first, psycopg.connect(dsn, autocommit=True) as looking:
            eventually(lambda: looking.execute(_WAITED_FOR).fetchone())
            first.execute(write.encode(), params)

    first = psycopg.connect(dsn)
    # As any worker's: two that are serializable are kept apart by the server, and none of ours rely on that.
    first.isolation_level = IsolationLevel.READ_COMMITTED
    first.execute(lock.encode(), params)
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write_when_waited_for)
        yield
        writing.result()
