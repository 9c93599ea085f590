"""What statements can rely on, on every connection of the project, and what is left as it was."""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.pq import TransactionStatus
from tests.support.servers import chosen
from tests.support.waiting import Stopwatch

import jobqueue
from jobqueue.database_session import DatabaseSession, connect, named
from jobqueue.moments import LONG_AGO, NEVER, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

_THEIRS = {
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "statement_timeout": "77s",
    "lock_timeout": "78s",
    "idle_in_transaction_session_timeout": "79s",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "extra_float_digits": "-15",
    "client_encoding": "LATIN1",
    "jit": "on",
}

_OURS = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "standard_conforming_strings": "on",
    "transaction_isolation": "read committed",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "jit": "off",
}

_SHOW = b"SELECT name, current_setting(name) FROM unnest(%(names)s::text[]) AS name"


@pytest.fixture(autouse=True)
def _hostile(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for name, value in _THEIRS.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(
                statement.format(sql.Identifier(connection.info.dbname), sql.Identifier(name), sql.Literal(value))
            )


@pytest.fixture(params=[(True, True), (True, False), (False, True), (False, False)])
def session(database: str, request: pytest.FixtureRequest) -> Iterator[DatabaseSession]:
    """In autocommit mode or not, and on a session of its own or as behind a pooler."""
    autocommit, ours = request.param
    session = DatabaseSession.open(named(database, "test"), autocommit=autocommit, prepare_threshold=1)
    session.settle(pooled=not ours)
    assert session.ours is ours
    with session:
        yield session


def _seen(session: DatabaseSession) -> dict[str, str]:
    return dict(session.execute(_SHOW, {"names": list(_OURS)}).fetchall())


def test_a_statement_has_our_settings(session: DatabaseSession) -> None:
    for _ in range(2):
        assert _seen(session) == _OURS
        assert session.execute(b"SELECT '2026-11-28 12:00+00'::timestamptz, '1 day 02:00'::interval").fetchone()
        session.rollback()


def test_a_transaction_has_them_from_its_first_statement_to_its_last(session: DatabaseSession) -> None:
    with session.transaction():
        assert _seen(session) == _OURS
        with session.transaction():
            assert _seen(session) == _OURS


def test_behind_a_pooler_the_session_is_left_as_it_was(session: DatabaseSession) -> None:
    with session.transaction():
        session.execute(b"SELECT 1")
    # Below the session, as another client of the pooler would.
    with psycopg.Cursor(session) as theirs:
        found = theirs.execute(b"SELECT current_setting('DateStyle'), current_setting('lock_timeout')").fetchone()
    assert found == (("ISO, YMD", "0") if session.ours else ("German, DMY", "78s"))


def test_a_statement_that_fails_leaves_no_transaction(session: DatabaseSession) -> None:
    with pytest.raises(errors.DivisionByZero):
        session.execute(b"SELECT 1 / 0")
    session.rollback()
    assert session.info.transaction_status == TransactionStatus.IDLE
    assert session.execute(b"SELECT 1").fetchone() == (1,)


def test_each_statement_is_committed_in_autocommit_mode(database: str) -> None:
    session = DatabaseSession.open(named(database, "test"))
    session.settle(pooled=True)
    with session, connect(database, "other") as other:
        session.execute(b"CREATE TABLE seen (n int)")
        session.execute(b"INSERT INTO seen VALUES (%(n)s)", {"n": 7})
        assert other.execute(b"SELECT n FROM seen").fetchall() == [(7,)]


def test_whether_the_database_may_be_written_to_is_not_ours_to_say(database: str) -> None:
    with psycopg.connect(database, autocommit=True, options="-c default_transaction_read_only=on") as connection:
        assert connection.execute(b"SHOW transaction_read_only").fetchone() == ("on",)
    with (
        connect(f"{database}?options=-cdefault_transaction_read_only%3Don", "test") as session,
        pytest.raises(errors.ReadOnlySqlTransaction),
    ):
        session.execute(b"CREATE TABLE seen (n int)")


def test_no_other_module_connects() -> None:
    """Whoever connects by himself relies on whatever a host has set."""
    source = Path(jobqueue.__file__).parent
    found = [
        f"{path.relative_to(source)}:{node.lineno}"
        for path in source.rglob("*.py")
        if path.name != "database_session.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr == "connect"
        and ast.unparse(node.value).split(".")[0] in ("psycopg", "Connection", "AsyncConnection")
    ]
    assert found == []


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_every_time_can_be_read(session: DatabaseSession, zone: str) -> None:
    with session.transaction():
        session.execute(b"SELECT set_config('TimeZone', %(zone)s, true)", {"zone": zone})
        row = session.execute(
            b"SELECT 'infinity'::timestamptz, '10000-01-01 00:00+00'::timestamptz, '294276-12-31'::timestamptz,"
            b" '-infinity'::timestamptz, '0001-12-31 23:00+00 BC'::timestamptz, '4713-01-01 BC'::timestamptz"
        ).fetchone()
        assert row == (NEVER, NEVER, NEVER, LONG_AGO, LONG_AGO, LONG_AGO)
        row = session.execute(
            b"SELECT '0001-01-02 00:00+00'::timestamptz, '9999-12-30 23:59:59+00'::timestamptz,"
            b" '2026-11-28 12:00+00'::timestamptz, ARRAY['infinity'::timestamptz]"
        ).fetchone()
        assert row is not None
        assert [stamp(moment) for moment in row[:3]] == [
            "0001-01-02T00:00:00.000Z", "9999-12-30T23:59:59.000Z", "2026-11-28T12:00:00.000Z",
        ]  # fmt: skip
        assert row[3] == [NEVER]


@pytest.mark.skipif(chosen() not in ("embedded", "npm:17", "npm:18"), reason="infinite intervals came with 17")
def test_an_infinite_interval_can_be_read(session: DatabaseSession) -> None:
    assert session.execute(b"SELECT 'infinity'::interval, '-infinity'::interval, '-99999999 years'::interval").fetchone() == (
        timedelta.max, timedelta.min, timedelta.min,
    )  # fmt: skip
    session.rollback()


def test_a_server_that_says_nothing_for_too_long_is_given_up(database: str) -> None:
    with (
        Stopwatch() as idle,
        pytest.raises(psycopg.OperationalError),
        connect(database, "test", silence=0.2) as session,
    ):
        session.execute(b"SELECT pg_sleep(30)")
    assert idle.seconds < 5
    assert session.closed


def test_a_server_that_goes_on_answering_is_not(database: str) -> None:
    with connect(database, "test", silence=0.6) as session:
        rows = session.execute(b"SELECT repeat('x', 100000), pg_sleep(0.02) FROM generate_series(1, 60)").fetchall()
    assert len(rows) == 60
