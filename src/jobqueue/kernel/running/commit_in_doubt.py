"""A commit whose answer was lost: whether it happened is asked of the server, by the transaction's id.

An id says nothing by itself after a crash of the server: ids whose transactions left nothing on disk are given out again. A
crash is seen by the server's statistics, which begin anew after it. They also do on a standby that took its place, or when
an operator resets them: nobody can know then either, which is the safe thing to believe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from psycopg.rows import tuple_row

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_NOTE = "SELECT pg_current_xact_id()::text, extract(epoch FROM stats_reset)::text FROM pg_stat_bgwriter"

# The status is asked for only where the id still means what it meant; an id of the future would be an error.
_SETTLE = """
    SELECT CASE WHEN extract(epoch FROM stats_reset)::text = %(statistics_since)s
                THEN pg_xact_status(%(transaction)s::text::xid8) END
    FROM pg_stat_bgwriter
"""

Ending = Literal["committed", "aborted", "in progress"]


class CommitInDoubt:
    """One transaction as it was just before its COMMIT."""

    __slots__ = ("_statistics_since", "_transaction")

    def __init__(self, connection: Connection) -> None:
        """Note the transaction that `connection` is in. Raises psycopg's errors."""
        [(self._transaction, self._statistics_since)] = _fetch(connection, _NOTE)

    def settle(self, connection: Connection) -> Ending | None:
        """How the transaction ended, asked in another one; None when the server crashed or was replaced since."""
        params = {"transaction": self._transaction, "statistics_since": self._statistics_since}
        [(ending,)] = _fetch(connection, _SETTLE, params)
        return cast("Ending | None", ending)


def _fetch(connection: Connection, query: str, params: dict[str, str] | None = None) -> list[tuple[Any, ...]]:
    # By a cursor of its own: what a handler did with the one that it was given is its own affair.
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(query.encode(), params).fetchall()
