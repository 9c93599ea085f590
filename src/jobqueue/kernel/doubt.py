"""A commit whose answer was lost: whether it happened is asked of the server, by the transaction's id.

An id says nothing by itself after a crash of the server: ids whose transactions left nothing on disk are given out again. A
crash is seen by the server's statistics, which begin anew after it and after nothing else but an operator's reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[tuple[Any, ...]]

_NOTE = "SELECT pg_current_xact_id()::text, stats_reset::text FROM pg_stat_bgwriter"

# The status is asked for only where the id still means what it meant; an id of the future would be an error.
_SETTLE = """
    SELECT CASE WHEN stats_reset::text = %(statistics_since)s THEN pg_xact_status(%(transaction)s::text::xid8) END
    FROM pg_stat_bgwriter
"""

Ending = Literal["committed", "aborted", "in progress"]


class Doubt:
    """One transaction as it was just before its COMMIT."""

    __slots__ = ("_statistics_since", "_transaction")

    def __init__(self, cursor: Cursor) -> None:
        """Note the transaction that `cursor` is in. Raises psycopg's errors."""
        [(self._transaction, self._statistics_since)] = cursor.execute(_NOTE).fetchall()

    def settle(self, cursor: Cursor) -> Ending | None:
        """How the transaction ended, asked in another one; None when the server crashed since and nobody can know."""
        params = {"transaction": self._transaction, "statistics_since": self._statistics_since}
        [(ending,)] = cursor.execute(_SETTLE, params).fetchall()
        return cast("Ending | None", ending)
