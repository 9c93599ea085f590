"""Statements that people ask for: each in a transaction of its own, with a limit on its time and on its patience.

What operators look at and repair is looked at while the database is in trouble; looking must not add to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

# Seconds that a statement waits for somebody's lock. Whoever waits makes others wait behind it.
_PATIENCE = 3.0

# Local to the transaction: nothing is left behind on a pooled connection. One process is enough for one person.
_LIMITS = (
    b"SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true), "
    b"set_config('max_parallel_workers_per_gather', '0', true)"
)


def fetch(
    connection: Connection, query: bytes, params: Mapping[str, Any] | None = None, *, seconds: float
) -> list[tuple[Any, ...]]:
    """Run one statement in its own transaction, for at most `seconds`, and return its rows.

    Raises psycopg.errors.QueryCanceled when the time is up and LockNotAvailable when a lock was not to be had; nothing of
    the statement is then done and the connection is as good as before.
    """
    return fetch_named(connection, query, params, seconds=seconds)[1]


def fetch_named(
    connection: Connection, query: bytes, params: Mapping[str, Any] | None = None, *, seconds: float
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """As `fetch`, with the names of the columns first."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_LIMITS, [f"{seconds * 1000:.0f}ms", f"{_PATIENCE * 1000:.0f}ms"])
        # Parameters even where there are none: every statement is read the same way, %% being a percent sign.
        cursor.execute(query, params or {})
        return [column.name for column in cursor.description or ()], cursor.fetchall()
