"""What was enqueued is found by what a test knows of it, and a miss shows what is there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from jobqueue import enqueue
from jobqueue.testing import assert_enqueued

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres

MOMENT = datetime(2126, 3, 4, 5, 6, 7, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared_dsn(postgres: Postgres, template: str) -> str:
    """libpq URL of a database in which nothing is committed."""
    return postgres.create_database(f"{template}_enqueued", template=template)


@pytest.fixture
def connection(shared_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(shared_dsn) as connection:
        yield connection
        connection.rollback()


def test_by_a_part_of_the_payload_and_by_columns(connection: psycopg.Connection[Any]) -> None:
    first = enqueue(connection, "report", {"month": "2026-01", "to": {"name": "Ada", "copies": [1, 2]}})
    second = enqueue(connection, "report", {"month": "2026-02"}, unique_key="k", priority=9, run_after=MOMENT)

    assert assert_enqueued(connection, "report") == first
    assert assert_enqueued(connection, "report", {"to": {"copies": [1, 2]}}) == first
    assert assert_enqueued(connection, "report", {"month": "2026-02"}) == second
    assert assert_enqueued(connection, "report", unique_key="k", priority=9, run_after=MOMENT) == second


@pytest.mark.parametrize(
    ("payload", "columns"),
    [
        ({"month": "2026-03"}, {}),
        ({"to": {"copies": [1]}}, {}),
        ({"paid": 1}, {}),
        ({"nothing": None}, {}),
        ({}, {"priority": 8}),
        ({}, {"unique_key": None, "run_after": MOMENT}),
    ],
    ids=str,
)
def test_a_miss_shows_what_is_there(
    connection: psycopg.Connection[Any], payload: dict[str, object], columns: dict[str, object]
) -> None:
    id_ = enqueue(connection, "report", {"month": "2026-01", "to": {"copies": [1, 2]}, "paid": True})

    with pytest.raises(AssertionError) as raised:
        assert_enqueued(connection, "report", payload, **columns)

    assert f"no job 'report' with payload = {payload!r}" in str(raised.value)
    assert f"\n  id = {id_}, payload = {{'to': {{'copies': [1, 2]}}, 'paid': True, 'month': '2026-01'}}" in str(
        raised.value
    )


def test_of_many_a_few_are_shown(connection: psycopg.Connection[Any]) -> None:
    for number in range(7):
        enqueue(connection, "report", {"number": number})

    with pytest.raises(AssertionError, match=r"and 2 more$"):
        assert_enqueued(connection, "report", {"number": 8})


def test_one_that_has_ended_and_one_of_another_kind_do_not_count(connection: psycopg.Connection[Any]) -> None:
    enqueue(connection, "report")
    enqueue(connection, "other")
    connection.execute("UPDATE jobs SET status = 'completed' WHERE kind = 'report'")

    with pytest.raises(AssertionError, match="no job of that kind is pending"):
        assert_enqueued(connection, "report")


def test_a_column_that_there_is_not_is_told(connection: psycopg.Connection[Any]) -> None:
    enqueue(connection, "report")

    with pytest.raises(ValueError, match="the table jobs has no column 'unqiue_key'"):
        assert_enqueued(connection, "report", unqiue_key="k")


def test_on_an_event_loop(shared_dsn: str) -> None:
    async def use() -> tuple[Any, Any]:
        async with await psycopg.AsyncConnection.connect(shared_dsn) as connection:
            found = await enqueue(connection, "a"), await assert_enqueued(connection, "a")
            await connection.rollback()
            return found

    enqueued, found = asyncio.run(use())
    assert enqueued == found
