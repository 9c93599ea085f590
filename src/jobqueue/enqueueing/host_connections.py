"""Runs a few statements on whatever a host has: a connection, a cursor or a session, of the library that it uses.

The library is recognised by the object's class and is never imported: a host that does not use it need not have it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import psycopg
from psycopg.rows import tuple_row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine


class Query(NamedTuple):
    """A statement with parameters as %(name)s, and their values. It returns one row at most."""

    text: str
    values: Mapping[str, object]


Steps = Generator[Query, object, Any]
"""Yields a query, is sent the first value of its row or None, and in the end returns the result of all."""


class AsyncHost(Protocol):
    """Whatever executes by a coroutine: an async connection or cursor of psycopg, an async connection or session of SQLAlchemy."""

    def execute(self, statement: Any, /) -> Coroutine[Any, Any, Any]:
        """Execute a statement."""


_SQLALCHEMY: Final = {"sqlalchemy.engine.base.Connection"}
_SQLALCHEMY_SESSIONS: Final = {"sqlalchemy.orm.session.Session", "sqlalchemy.orm.scoping.scoped_session"}
_SQLALCHEMY_ASYNC: Final = {"sqlalchemy.ext.asyncio.engine.AsyncConnection"}
_SQLALCHEMY_ASYNC_SESSIONS: Final = {
    "sqlalchemy.ext.asyncio.session.AsyncSession",
    "sqlalchemy.ext.asyncio.scoping.async_scoped_session",
}

_ACCEPTED: Final = (
    "give the connection, the cursor or the session that your transaction is in: of psycopg, SQLAlchemy (both also async) or "
    "Django, or a DB-API cursor"
)


def run(host: object, steps: Steps) -> Any:
    """Run the steps on `host` and return their result, or a coroutine of it where the host is async.

    Raises TypeError when `host` is nothing that a statement can be run on, and whatever the library raises.
    """
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(host).__mro__}
    if isinstance(host, psycopg.AsyncConnection | psycopg.AsyncCursor):
        return _run_psycopg_async(host, steps)
    if names & _SQLALCHEMY_ASYNC:
        return _run_sqlalchemy_async(host, steps)
    if names & _SQLALCHEMY_ASYNC_SESSIONS:
        return _run_sqlalchemy_session_async(host, steps)
    if names & _SQLALCHEMY:
        return _run(steps, lambda query: host.execute(_as_text(query), dict(query.values)).fetchone())  # type: ignore[attr-defined]
    if names & _SQLALCHEMY_SESSIONS:
        return run(host.connection(), steps)  # type: ignore[attr-defined]
    if isinstance(host, psycopg.Connection | psycopg.Cursor):
        # A cursor of our own: the host's may hold rows that it has not read, and make others of them.
        connection = host if isinstance(host, psycopg.Connection) else host.connection
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            return _run_cursor(cursor, steps)
    if inspect.iscoroutinefunction(getattr(host, "execute", None)):
        raise _refused(host)
    if callable(getattr(host, "execute", None)) and callable(getattr(host, "fetchone", None)):
        return _run_cursor(host, steps)
    if callable(getattr(host, "cursor", None)):
        with host.cursor() as cursor:  # type: ignore[attr-defined]
            return _run_cursor(cursor, steps)
    raise _refused(host)


def _run(steps: Steps, fetch: Callable[[Query], Any]) -> Any:
    found: object = None
    try:
        while True:
            found = _first(fetch(steps.send(found)))
    except StopIteration as end:
        return end.value


async def _run_async(steps: Steps, fetch: Callable[[Query], Awaitable[Any]]) -> Any:
    found: object = None
    try:
        while True:
            found = _first(await fetch(steps.send(found)))
    except StopIteration as end:
        return end.value


def _run_cursor(cursor: Any, steps: Steps) -> Any:
    def fetch(query: Query) -> Any:
        cursor.execute(query.text, query.values)
        return cursor.fetchone()

    return _run(steps, fetch)


async def _run_psycopg_async(host: psycopg.AsyncConnection[Any] | psycopg.AsyncCursor[Any], steps: Steps) -> Any:
    connection = host if isinstance(host, psycopg.AsyncConnection) else host.connection
    async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:

        async def fetch(query: Query) -> Any:
            await cursor.execute(query.text.encode(), query.values)
            return await cursor.fetchone()

        return await _run_async(steps, fetch)


async def _run_sqlalchemy_session_async(session: Any, steps: Steps) -> Any:
    return await _run_sqlalchemy_async(await session.connection(), steps)


async def _run_sqlalchemy_async(connection: Any, steps: Steps) -> Any:
    async def fetch(query: Query) -> Any:
        return (await connection.execute(_as_text(query), dict(query.values))).fetchone()

    return await _run_async(steps, fetch)


def _as_text(query: Query) -> Any:
    # The host's object came from it, so it has been imported.
    return sys.modules["sqlalchemy"].text(re.sub(r"%\((\w+)\)s", r":\1", query.text))


def _first(row: Any) -> object:
    """The first value of a row of any library, None without a row."""
    if row is None:
        return None
    return next(iter(row.values())) if isinstance(row, Mapping) else row[0]


def _refused(host: object) -> TypeError:
    return TypeError(f"no job can be enqueued on a {type(host).__qualname__}: {_ACCEPTED}")
