"""A commit whose answer was lost: the server tells by the transaction's id whether it happened.

After a crash of the server an id says nothing by itself: the server gives out again the ids of transactions that left nothing
on disk. The server's statistics show a crash, because they begin anew after it. They also begin anew on a standby that took
the server's place, or when an operator resets them; nobody knows then, which is the safe thing to believe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from psycopg.rows import tuple_row

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_NOTE = "SELECT pg_current_xact_id()::text, extract(epoch FROM stats_reset)::text FROM pg_stat_bgwriter"

# Asks for the status only where the id still means what it meant; an id of the future would be an error.
_SETTLE = """
    SELECT CASE WHEN extract(epoch FROM stats_reset)::text = %(statistics_since)s
                THEN pg_xact_status(%(transaction)s::text::xid8) END
    FROM pg_stat_bgwriter
"""

Ending = Literal["committed", "aborted", "in progress"]


class CommitInDoubt:
    """One transaction, as it was just before its COMMIT."""

    __slots__ = ("_statistics_since", "_transaction")

    def __init__(self, connection: Connection) -> None:
        """Note the transaction that `connection` is in. Raises psycopg's errors."""
        [(self._transaction, self._statistics_since)] = _fetch(connection, _NOTE)

    def settle(self, connection: Connection) -> Ending | None:
        """How the transaction ended; None when the server has crashed or was replaced since. Ask in another transaction."""
        params = {"transaction": self._transaction, "statistics_since": self._statistics_since}
        [(ending,)] = _fetch(connection, _SETTLE, params)
        return cast("Ending | None", ending)


def _fetch(connection: Connection, query: str, params: dict[str, str] | None = None) -> list[tuple[Any, ...]]:
    # A cursor of our own: the handler may have changed the one that it was given.
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(query.encode(), params).fetchall()
