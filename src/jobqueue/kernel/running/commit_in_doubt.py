"""A commit whose answer was lost: the server tells by the transaction's id whether it happened.

After a crash of the server an id says nothing by itself: the server gives out again the ids of transactions that left nothing
on disk. The server's statistics show a crash, because they begin anew after it. A standby that took the server's place gives
out the ids anew, too, of transactions that never reached it; its start shows that it is another server, where it may have the
statistics as a part of its copy. After an orderly restart, or when an operator resets the statistics, nobody knows either,
which is the safe thing to believe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from psycopg.rows import tuple_row

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_SERVER = "concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), extract(epoch FROM stats_reset))"

_NOTE = f"SELECT pg_current_xact_id()::text, {_SERVER} FROM pg_stat_bgwriter"  # noqa: S608 - constants

# Asks for the status only where the id still means what it meant; an id of the future would be an error.
_SETTLE = f"""
    SELECT CASE WHEN {_SERVER} = %(server)s
                THEN pg_xact_status(%(transaction)s::text::xid8) END
    FROM pg_stat_bgwriter
"""  # noqa: S608 - constants

Ending = Literal["committed", "aborted", "in progress"]


class CommitInDoubt:
    """One transaction, as it was just before its COMMIT."""

    __slots__ = ("_server", "_transaction")

    def __init__(self, connection: Connection) -> None:
        """Note the transaction that `connection` is in. Raises psycopg's errors."""
        [(self._transaction, self._server)] = _fetch(connection, _NOTE)

    def settle(self, connection: Connection) -> Ending | None:
        """How the transaction ended; None when the server was restarted or replaced since. Ask in another transaction."""
        params = {"transaction": self._transaction, "server": self._server}
        [(ending,)] = _fetch(connection, _SETTLE, params)
        return cast("Ending | None", ending)


def _fetch(connection: Connection, query: str, params: dict[str, str] | None = None) -> list[tuple[Any, ...]]:
    # A cursor of our own: the handler may have changed the one that it was given.
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(query.encode(), params).fetchall()
