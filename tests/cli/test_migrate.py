"""`jobqueue migrate`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.read_only import read_only

from jobqueue.migrations import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.helpers import Database, Jobqueue

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = pytest.mark.slow


@pytest.fixture
def empty(postgres: Postgres, offline: Jobqueue, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database that holds nothing, as DATABASE_URL."""
    name = f"empty_{os.getpid()}"
    url = postgres.create_database(name)
    monkeypatch.setenv("DATABASE_URL", url)
    yield url
    postgres.drop_database(name)


def _tables(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relname IN ('publish_jobs', 'migrations')"
        ).fetchone()
        assert row is not None
        return int(row[0])


def test_a_dry_run_prints_sql_that_does_the_same_and_changes_nothing(empty: str, offline: Jobqueue) -> None:
    ran = offline("migrate", "--dry-run")
    assert ran.code == 0
    assert ran.err == f"{len(load())} pending\n"
    assert _tables(empty) == 0
    with psycopg.connect(empty) as connection:
        connection.execute(ran.out.encode())
        names = connection.execute("SELECT name FROM jobqueue.queues").fetchall()
    assert {("jobs",), ("publish_jobs",)} <= set(names)


def test_each_migration_is_applied_once_and_named(empty: str, offline: Jobqueue) -> None:
    first = offline("migrate")
    assert first.code == 0
    assert first.out.splitlines() == [f"applied {each.version:04d}_{each.name}" for each in load()]
    assert _tables(empty) == 2
    second = offline("migrate")
    assert (second.code, second.out) == (0, "nothing to apply: the database is at this version\n")
    assert offline("migrate", "--dry-run").out == ""


def test_json(empty: str, offline: Jobqueue) -> None:
    names = [each.name for each in load()]
    document = offline("migrate", "--dry-run", "--json").document
    assert document["schema"] == "jobqueue.migrations/1"
    assert (document["applied"], [each["name"] for each in document["pending"]]) == ([], names)
    document = offline("migrate", "--json").document
    assert ([each["name"] for each in document["applied"]], document["pending"]) == (names, [])


def test_a_history_that_does_not_fit_is_1(sql: Database, jobqueue: Jobqueue) -> None:
    sql("UPDATE jobqueue.migrations SET checksum = 'other' WHERE version = 1")
    ran = jobqueue("migrate")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("migration 0001_kernel was applied with other contents")


def test_a_database_that_takes_no_writes_is_1_and_said(empty: str, offline: Jobqueue) -> None:
    with read_only(empty):
        ran = offline("migrate")
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("the database takes no writes, and nothing was changed: it is a standby, or was set")
        assert "Traceback" not in ran.err
        assert offline("migrate", "--dry-run").code == 0
    assert offline("migrate").code == 0
