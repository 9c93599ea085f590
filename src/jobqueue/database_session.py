"""Every connection of the project is made here: its statements may rely on settings, whatever a role's or a database's own are.

A host may have set its role or its database to write dates the German way, to end a statement after a second, to compile
queries. Where the session on the server is ours, what our statements rely on is set once, when it begins. Behind a transaction pooler
no session is anybody's: there each transaction sets it for itself, in one statement, and leaves nothing behind.

What is a host's to say is left alone: its search_path and its time zone, which decide what its triggers and its columns mean,
and whether the database may be written to.
"""

from __future__ import annotations

import math
import os
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus

from jobqueue.time_loaders import register_time_loaders

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg import Transaction
    from psycopg.abc import Params, PQGen

# Seconds for which a server may be silent, where a statement of ours is limited to a minute at most.
_SILENCE: Final = 75.0

# Seconds for which a server may be silent when a session begins.
_SIGN_OF_LIFE: Final = 5.0

# Settings of which a server tells each session, and what they mean when they are on.
_READ_ONLY: Final = {
    b"in_hot_standby": "a standby",
    b"default_transaction_read_only": "default_transaction_read_only is on",
}

# A setting that this version of the server lacks is passed over.
_PINNED: Final = {
    # A statement of ours takes a millisecond, and to compile it takes hundreds.
    "jit": "off",
    # How values are written and read.
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    # Limits are set where one is meant.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    # How rows are found, and that a policy hides rows instead of raising.
    "row_security": "on",
    "plan_cache_mode": "auto",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    "enable_nestloop": "on",
    "enable_tidscan": "on",
}


# Whoever waits for a lock and then looks must see what its holder did. The driver's BEGIN says so, where there is one.
_PINNED_WITHOUT_BEGIN: Final = {**_PINNED, "default_transaction_isolation": "read committed"}


def _pin(settings: Mapping[str, str], *, local: bool) -> str:
    names, values = ",".join(settings), ",".join(f'"{value}"' for value in settings.values())
    return (
        f"SELECT count(set_config(name, value, {str(local).lower()}))"  # noqa: S608 - constants
        f" FROM unnest('{{{names}}}'::text[], '{{{values}}}'::text[]) AS pinned (name, value)"
        " WHERE current_setting(name, true) IS NOT NULL"
    )


def _pin_when_ours(settings: Mapping[str, str]) -> str:
    # A pooler answers with a process id of its own invention at the start, and statements reach another process.
    pin = _pin(settings, local=False)
    return f"{_UNCOMPILED}SELECT pg_backend_pid() = {{pid}}, ({pin} AND pg_backend_pid() = {{pid}})"


# Before the statement that pins, which the server would else compile itself where a host has it compile all.
_UNCOMPILED: Final = "SET LOCAL jit = off; "

_PIN_LOCALLY: Final = (_UNCOMPILED + _pin(_PINNED, local=True)).encode()
_BEGIN: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED; " + _PIN_LOCALLY

# By whether every statement is a transaction of its own.
_PIN_WHEN_OURS: Final = {True: _pin_when_ours(_PINNED_WITHOUT_BEGIN), False: _pin_when_ours(_PINNED)}


class DatabaseSession(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which every transaction is READ COMMITTED and has the settings that our statements rely on.

    Every time that PostgreSQL can hold can be read (time_loaders.py).

    `ours` tells whether the session on the server is: it is not behind a transaction pooler, or where that is not known. There
    a statement outside a transaction gets one of its own, and nothing is ever prepared: a prepared statement's name may mean
    what another client prepared, and the wrong statement would run, without an error.

    With a `silence`, in seconds, a connection on which the server says nothing for so long in the middle of a statement is cut:
    a pooler whose server is gone, or a backend that is frozen, stays connected and never answers.
    """

    ours = False
    silence: float | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.cursor_factory = _Cursor
        register_time_loaders(self.adapters)

    @classmethod
    def open(cls, conninfo: str, *, autocommit: bool = True, prepare_threshold: int | None = None) -> Self:
        """Connect, and ask nothing of the server yet: `settle` is to be called next.

        Raises psycopg.OperationalError when it cannot be reached.
        """
        return cls.connect(conninfo, autocommit=autocommit, prepare_threshold=prepare_threshold)

    def settle(self, *, pooled: bool = False) -> None:
        """Find out whose the session is, unless it is known to be a pooler's, and pin the settings of one that is ours.

        To be called once, before anything else. No transaction is left open.
        """
        # The driver says it with every BEGIN.
        self.isolation_level = IsolationLevel.READ_COMMITTED
        if not pooled:
            query = _PIN_WHEN_OURS[self.autocommit].replace("{pid}", str(self.info.backend_pid))
            cursor = psycopg.Cursor(self).execute(query.encode(), prepare=False)
            cursor.nextset()
            row = cursor.fetchone()
            self.ours = row is not None and row[0]
            # In a transaction that is undone the settings would be undone, too.
            if not self.autocommit:
                self.commit()
        if not self.ours:
            self.prepare_threshold = None

    def wait(self, gen: PQGen[Any], *arguments: Any, **named: Any) -> Any:
        """As the driver's, but no longer than the server may be silent."""
        return super().wait(gen if self.silence is None else self._heard(gen, self.silence), *arguments, **named)

    def _heard(self, gen: PQGen[Any], silence: float) -> PQGen[Any]:
        """What the driver waits for. It resumes `gen` from time to time, with nothing where nothing has come."""
        until = time.monotonic() + silence
        try:
            wants = next(gen)
            while True:
                ready = yield wants
                now = time.monotonic()
                if ready:
                    until = now + silence
                elif now >= until:
                    cut(self)
                    until = math.inf
                wants = gen.send(ready)
        except StopIteration as end:
            return end.value

    @property
    def refuses_writes(self) -> str | None:
        """Why the server takes no writes of this session, as it has said with its last answer; None when it takes them.

        Behind a pooler it is None: what is known there is another session's.
        """
        if not self.ours:
            return None
        for setting, reason in _READ_ONLY.items():
            if self.pgconn.parameter_status(setting) == b"on":
                return reason
        return None

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Transaction]:
        """As the driver's."""
        begins = self._idle
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if begins and not self.ours:
                psycopg.Cursor(self).execute(_PIN_LOCALLY)
            yield transaction

    @contextmanager
    def relied_on(self) -> Iterator[None]:
        """A transaction with our settings, where neither it nor the session is there yet; in autocommit mode it ends here."""
        if self.ours or not self._idle:
            yield
        elif not self.autocommit:
            psycopg.Cursor(self).execute(_PIN_LOCALLY)
            yield
        else:
            psycopg.Cursor(self).execute(_BEGIN)
            try:
                yield
            except BaseException:
                with suppress(psycopg.Error):
                    self.rollback()
                raise
            self.commit()

    @property
    def _idle(self) -> bool:
        return self.info.transaction_status == TransactionStatus.IDLE


class _Cursor(psycopg.Cursor[tuple[Any, ...]]):
    def execute(
        self, query: Any, params: Params | None = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        session = self.connection
        assert isinstance(session, DatabaseSession)
        with session.relied_on():
            return super().execute(query, params, prepare=prepare, binary=binary)


def named(conninfo: str, name: str, *, connect_timeout: int | None = None) -> str:
    """The conninfo with what a server is told at the start: `name`, which shows as application_name, and the encoding.

    `connect_timeout` is in seconds.
    """
    limits = {} if connect_timeout is None else {"connect_timeout": connect_timeout}
    return psycopg.conninfo.make_conninfo(
        conninfo, application_name=f"jobqueue:{name}", client_encoding="utf8", **limits
    )


def connect(
    conninfo: str,
    name: str,
    *,
    autocommit: bool = True,
    connect_timeout: int | None = None,
    silence: float | None = _SILENCE,
) -> DatabaseSession:
    """Connect as `jobqueue:NAME`; nothing is prepared. Used as a context manager it ends its transaction and closes.

    The connection is cut, and what waits for it raises psycopg.OperationalError, once the server says nothing for `silence`
    seconds: more than a statement may take, or None where one may take any time.

    Raises psycopg.OperationalError when the server cannot be reached.
    """
    session = DatabaseSession.open(named(conninfo, name, connect_timeout=connect_timeout), autocommit=autocommit)
    try:
        session.silence = _SIGN_OF_LIFE
        session.settle()
        session.silence = silence
    except BaseException:
        session.close()
        raise
    return session


async def connect_on_loop(
    conninfo: str, name: str, *, connect_timeout: int
) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """Connect as `jobqueue:NAME` on the event loop, in autocommit mode; nothing is prepared, and nothing is pinned.

    It is for reading a row by its key, which means the same under every setting; the caller bounds how long it waits.
    """
    return await psycopg.AsyncConnection.connect(
        named(conninfo, name, connect_timeout=connect_timeout), autocommit=True, prepare_threshold=None
    )


def cut(connection: psycopg.Connection[Any]) -> None:
    """Shut the connection's socket down, so that whoever waits for its answer stops waiting. For any thread."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as peer:
        peer.shutdown(socket.SHUT_RDWR)
