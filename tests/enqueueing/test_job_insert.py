"""A job is enqueued with the host's transaction or not at all, on whatever library the host uses."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.enqueueing.host_libraries import ASYNC, SYNC
from tests.support.roles import as_role, let_in

from jobqueue import enqueue, wait

Watcher = psycopg.Connection[Any]


def jobs(watcher: Watcher) -> list[Any]:
    return watcher.execute("SELECT id, kind, payload FROM jobs ORDER BY id").fetchall()


@pytest.mark.parametrize("library", SYNC)
def test_a_job_exists_when_the_host_commits_and_only_then(database: str, watcher: Watcher, library: Any) -> None:
    with library(database) as (host, commit, rollback):
        enqueue(host, "report", {"number": 1})
        rollback()
    with library(database) as (host, commit, rollback):
        id_ = enqueue(host, "report", {"name": "Zoë %s :x", "n": [1.5, None]})
        assert jobs(watcher) == []
        commit()
    assert jobs(watcher) == [(id_, "report", {"name": "Zoë %s :x", "n": [1.5, None]})]


@pytest.mark.parametrize("library", SYNC)
def test_a_twin_is_told_by_its_id(database: str, watcher: Watcher, library: Any) -> None:
    with library(database) as (host, commit, _):
        first = enqueue(host, "report", {"number": 1}, unique_key="k")
        second = enqueue(host, "report", {"number": 2}, unique_key="k", priority=9)
        commit()
    assert first == second
    assert jobs(watcher) == [(first, "report", {"number": 1})]
    assert watcher.execute("SELECT priority FROM jobs").fetchone() == (9,)


@pytest.mark.parametrize("library", ASYNC)
def test_the_same_on_an_event_loop(database: str, watcher: Watcher, library: Any) -> None:
    async def use() -> tuple[Any, Any]:
        async with library(database) as host:
            transaction = host.connection if isinstance(host, psycopg.AsyncCursor) else host
            await enqueue(host, "report", {"number": 1})
            await transaction.rollback()
            first = await enqueue(host, "report", {"number": 2}, unique_key="k", run_after=timedelta(hours=1))
            second = await enqueue(host, "report", {"number": 3}, unique_key="k")
            assert jobs(watcher) == []
            await transaction.commit()
            return first, second

    first, second = asyncio.run(use())
    assert first == second
    assert jobs(watcher) == [(first, "report", {"number": 2})]


# Times, priorities, keys


def test_a_time_and_a_wait(database: str, watcher: Watcher) -> None:
    moment = datetime(2126, 3, 4, 5, 6, tzinfo=UTC)
    with psycopg.connect(database) as connection:
        at = enqueue(connection, "a", run_after=moment)
        later = enqueue(connection, "b", run_after=timedelta(minutes=90))
        now = connection.execute("SELECT now()").fetchone()
    due = dict(watcher.execute("SELECT id, run_after FROM jobs").fetchall())
    assert now is not None
    assert due == {at: moment, later: now[0] + timedelta(minutes=90)}


def test_without_them_the_table_decides(database: str, watcher: Watcher) -> None:
    with psycopg.connect(database) as connection:
        enqueue(connection, "a")
    row = watcher.execute("SELECT payload, priority, unique_key, run_after = created_at, status FROM jobs").fetchone()
    assert row == ({}, 5, None, True, "pending")


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"kind": ""}, ValueError, "kind is ''"),
        ({"kind": 1}, TypeError, "kind is a int: it must be a string"),
        ({"unique_key": "a\0"}, ValueError, "unique_key is 'a"),
        ({"unique_key": 7}, TypeError, "unique_key is a int"),
        ({"priority": True}, TypeError, "priority is a bool"),
        ({"priority": 1.0}, TypeError, "priority is a float"),
        ({"priority": 2**31}, ValueError, "priority is 2147483648: it must be from -2147483648 to 2147483647"),
        ({"run_after": datetime(2026, 1, 1)}, ValueError, "run_after is 2026-01-01T00:00:00, without a time zone"),  # noqa: DTZ001
        ({"run_after": 30}, TypeError, "run_after is a int"),
        ({"payload": {"x": float("nan")}}, ValueError, r"payload\['x'\] is nan"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    database: str, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    arguments = {"kind": "a", **given}
    with psycopg.connect(database) as connection:
        with pytest.raises(error, match=says):
            enqueue(connection, **arguments)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


class AsyncpgLike:
    async def execute(self) -> None: ...
    def cursor(self) -> None: ...


@pytest.mark.parametrize(
    "host", [None, "postgresql:///app", object(), AsyncpgLike()], ids=lambda host: type(host).__name__
)
def test_a_host_that_is_none_is_refused(host: object) -> None:
    with pytest.raises(
        TypeError, match=r"^no job can be enqueued on a .*: give the connection, the cursor or the session"
    ):
        enqueue(host, "a")


def test_a_trigger_that_keeps_rows_away_is_told(database: str, watcher: Watcher) -> None:
    watcher.execute(b"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    watcher.execute(b"CREATE TRIGGER no BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION no()")
    for key in (None, "k"):
        with psycopg.connect(database) as connection, pytest.raises(RuntimeError, match="returned no row"):
            enqueue(connection, "a", unique_key=key)
    watcher.execute(b"DROP FUNCTION no CASCADE")


# Twins


@pytest.mark.parametrize("level", list(psycopg.IsolationLevel), ids=lambda level: level.name)
def test_a_twin_of_another_transaction_is_found_and_waits_for_ours(
    database: str, watcher: Watcher, level: psycopg.IsolationLevel
) -> None:
    there = enqueue(watcher, "a", unique_key="k")
    with psycopg.connect(database) as connection:
        connection.isolation_level = level
        assert enqueue(connection, "a", unique_key="k") == there
        unlocked = watcher.execute("SELECT id FROM jobs FOR NO KEY UPDATE SKIP LOCKED").fetchall()
        assert unlocked == [], "a claim passes it over until we commit"


def test_of_several_twins_the_one_that_waits_for_us_is_told(database: str, watcher: Watcher) -> None:
    with psycopg.connect(database) as one, psycopg.connect(database) as other:
        first, second = (enqueue(connection, "a", unique_key="k") for connection in (one, other))
    assert first < second
    with psycopg.connect(database) as claimer, psycopg.connect(database) as connection:
        claimer.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", [first])
        assert enqueue(connection, "a", unique_key="k") == second


def test_a_twin_that_was_claimed_between_two_statements_leaves_a_job_of_our_own(
    watcher: Watcher, database: str
) -> None:
    """Without a transaction nothing holds the twin."""
    with psycopg.connect(database, autocommit=True) as connection, connection.cursor() as real:
        there = enqueue(connection, "a", unique_key="k")

        class Claimed:
            """The host's cursor; meanwhile the twin is claimed."""

            def execute(self, query: str, values: Any) -> None:
                if query.startswith("SELECT id"):
                    watcher.execute("UPDATE jobs SET status = 'completed' WHERE id = %s", [there])
                real.execute(query.encode(), values)

            def fetchone(self) -> Any:
                return real.fetchone()

        ours = enqueue(Claimed(), "a", unique_key="k")
    assert ours != there
    assert watcher.execute("SELECT status FROM jobs WHERE id = %s", [ours]).fetchone() == ("pending",)


@pytest.mark.parametrize(
    ("rights", "told"),
    [("SELECT (id)", False), ("SELECT", True), ("SELECT, UPDATE (priority)", True)],
    ids=["enqueues", "looks too", "changes too"],
)
def test_a_role_that_may_not_look_for_the_twin_is_told_no_id(
    database: str, watcher: Watcher, rights: str, told: bool
) -> None:
    role = f"host_{watcher.info.backend_pid}"
    watcher.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'canary'".encode())
    watcher.execute(f"GRANT INSERT, {rights} ON jobs TO {role}".encode())
    try:
        with psycopg.connect(database, user=role, password="canary") as connection:
            first = enqueue(connection, "a", unique_key="k")
            assert enqueue(connection, "a", unique_key="k") == (first if told else None)
            connection.commit()
    finally:
        watcher.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
    assert jobs(watcher) == [(first, "a", {})]


def test_the_role_of_hosts_is_enough_and_that_of_readers_waits(database: str, watcher: Watcher) -> None:
    let_in(database)
    with psycopg.connect(as_role(database, "host")) as connection:
        first = enqueue(connection, "a", {"n": 1}, unique_key="k", priority=7, run_after=timedelta(0))
        assert enqueue(connection, "a", unique_key="k") is None
    watcher.execute("UPDATE jobs SET status = 'completed' WHERE id = %s", [first])
    assert wait(as_role(database, "reader"), first).status == "completed"
