"""Statements that people ask for, each in a transaction of its own with limits on its time and its patience.

Operators look and repair while the database is in trouble: they must not add to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

# Seconds that a statement waits for somebody's lock: others wait behind it.
_PATIENCE = 3.0

# Local to the transaction, so that nothing stays behind on a pooled connection. One process is enough for one person.
_LIMITS = (
    b"SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true), "
    b"set_config('max_parallel_workers_per_gather', '0', true)"
)


class NamedRows(NamedTuple):
    """The rows of a query, and the names of their columns."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def fetch(
    connection: Connection, query: bytes, params: Mapping[str, Any] | None = None, *, seconds: float
) -> list[tuple[Any, ...]]:
    """Run one statement in its own transaction, for at most `seconds`, and return its rows.

    Raises psycopg.errors.QueryCanceled when the time is up and LockNotAvailable when a lock was not to be had. The statement
    has then done nothing, and the connection is as good as before.
    """
    return fetch_named(connection, query, params, seconds=seconds).rows


def fetch_named(
    connection: Connection, query: bytes, params: Mapping[str, Any] | None = None, *, seconds: float
) -> NamedRows:
    """As `fetch`, with the names of the columns."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_LIMITS, [f"{seconds * 1000:.0f}ms", f"{_PATIENCE * 1000:.0f}ms"])
        # Parameters even where there are none: the driver then reads %% as a percent sign in every statement.
        cursor.execute(query, params or {})
        return NamedRows([column.name for column in cursor.description or ()], cursor.fetchall())
