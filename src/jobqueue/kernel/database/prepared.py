"""Prepared statements, run below the driver's cursors.

A cursor does for each execution what a worker needs only once. On a processor that has just woken up every line of that is
slow: it was a third of the time from a job's insert to its start.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, ExecStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGresult

_PARAMETER = re.compile(rb"%\((\w+)\)s|%%")


def _write_text(text: str) -> bytes:
    if "\0" in text:
        # A NUL would end the text there, without an error.
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return text.encode()


_WRITTEN: dict[type, Callable[[Any], bytes]] = {
    str: _write_text,
    int: lambda number: b"%d" % number,
    float: lambda number: repr(number).encode(),
    UUID: lambda uuid: uuid.hex.encode(),
}


class _Statement(NamedTuple):
    """A statement's text, or the name under which it is prepared, and its parameters in the order of their numbers."""

    text: bytes
    parameters: tuple[str, ...]


class Prepared:
    """The prepared statements of one connection, which is in autocommit mode and has a server session of its own.

    Parameters travel as text without a type: the statement gives them one. The connection's own loaders read the rows.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._transformer = Transformer(connection)
        self._known: dict[bytes, _Statement] = {}
        self._numbers = itertools.count()

    def fetch(self, query: bytes, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run one statement in its own transaction and return its rows. Raises as the driver does."""
        try:
            return self._fetch(query, params)
        except errors.FeatureNotSupported:
            # A host has altered a column that is returned, and the server refuses to run what was prepared before.
            if not self._forget(query):
                raise
            return self._fetch(query, params)

    def _fetch(self, query: bytes, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        known = self._known.get(query)
        if known is None:
            known = self._known[query] = self._prepare(query)
        name, parameters = known
        values = [self._write(params[parameter]) for parameter in parameters]
        # The driver's type does not allow for None, which is NULL here as elsewhere.
        result = self._pgconn.exec_prepared(name, values)  # type: ignore[arg-type]
        if result.status == ExecStatus.TUPLES_OK:
            self._transformer.set_pgresult(result)
            return self._transformer.load_rows(0, result.ntuples, tuple)
        self._check(result)
        return []

    def _prepare(self, query: bytes) -> _Statement:
        text, parameters = _numbered(query)
        name = b"jobqueue_%d" % next(self._numbers)
        self._check(self._pgconn.prepare(name, text))
        return _Statement(name, parameters)

    def _forget(self, query: bytes) -> bool:
        """Have the statement prepared anew when it runs next; returns whether it was prepared."""
        known = self._known.pop(query, None)
        if known is None:
            return False
        self._check(self._pgconn.exec_(b"DEALLOCATE " + known.text))
        return True

    def _check(self, result: PGresult) -> None:
        if result.status == ExecStatus.COMMAND_OK:
            return
        if self._pgconn.status != ConnStatus.OK:
            raise psycopg.OperationalError(self._pgconn.get_error_message() or "the connection is lost")
        raise errors.error_from_result(result, encoding=self._connection.info.encoding)

    def _write(self, value: Any) -> Buffer | None:
        if value is None:
            return None
        write = _WRITTEN.get(type(value))
        if write is not None:
            return write(value)
        if type(value) is list and all(type(number) is int for number in value):
            return b"{%s}" % b",".join([b"%d" % number for number in value])
        return self._transformer.get_dumper(value, PyFormat.TEXT).dump(value)


@cache
def _numbered(query: bytes) -> _Statement:
    """The statement with numbers for its parameters' names."""
    names: dict[bytes, int] = {}

    def number(found: re.Match[bytes]) -> bytes:
        name = found[1]
        return b"$%d" % names.setdefault(name, len(names) + 1) if name else b"%"

    text = _PARAMETER.sub(number, query)
    return _Statement(text, tuple(name.decode() for name in names))
