"""The command line against a migrated database of the test's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.cli.helpers import Database, Jobqueue, Reused

from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """A migrated database that each test's own is copied from."""
    name = f"cli_template_{os.getpid()}"
    migrate(postgres.create_database(name))
    return name


@pytest.fixture(scope="session")
def reused(postgres: Postgres, template: str) -> Reused:
    """The database that tests take turns with."""
    return Reused(postgres, template)


@pytest.fixture
def database(reused: Reused) -> Iterator[str]:
    """libpq URL of a migrated database with nothing in it."""
    yield reused.take()
    reused.give_back()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with nothing of ours in it, for this process and for those that it starts."""
    for name in [
        name for name in os.environ if name.startswith("PG") or name in ("DATABASE_URL", "DATABASE_DIRECT_URL")
    ]:
        monkeypatch.delenv(name)
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"PYTHONPATH": "src"}


@pytest.fixture
def offline(environment: dict[str, str]) -> Jobqueue:
    """The command, without a database."""
    return Jobqueue()


@pytest.fixture
def jobqueue(database: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Jobqueue:
    """The command, with DATABASE_URL set."""
    monkeypatch.setenv("DATABASE_URL", database)
    environment["DATABASE_URL"] = database
    return Jobqueue()


@pytest.fixture
def sql(database: str) -> Iterator[Database]:
    """Runs SQL in the test's database, each statement in its own transaction."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield Database(connection)


@pytest.fixture
def own_words(sql: Database) -> str:
    """A queue that a host had before, with a bigint id and its own words for the states."""
    sql("CREATE TABLE public.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL)")
    sql("SELECT jobqueue.adopt('public.orders', 'NEW', 'BUSY', 'DONE', 'BROKEN', 'VOID')")
    return "orders"
