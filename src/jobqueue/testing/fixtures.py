"""Fixtures for pytest: a PostgreSQL that lives as long as the tests, and a migrated database for each of them.

They need the extra `testing`. In the `conftest` at the root of the tests:

    pytest_plugins = ["jobqueue.testing.fixtures"]
"""

from __future__ import annotations

import itertools
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.leash import reachable_folder, unprivileged_user
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_numbers = itertools.count(1)

# Databases come and go by the hundred, and nobody misses one after a crash.
_CARELESS = {"fsync": "off", "full_page_writes": "off"}


@pytest.fixture(scope="session")
def jobqueue_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of the session's own, on a free port of this machine; it ends with the tests, however they end."""
    folder = reachable_folder("jobqueue-testing-", unprivileged_user())
    try:
        with Postgres(folder / "postgres", settings=_CARELESS) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def jobqueue_schema() -> Callable[[str], None]:
    """What makes the host's own tables in a migrated database, given its libpq URL. Override it; here it makes none."""
    return lambda _dsn: None


@pytest.fixture(scope="session")
def jobqueue_template(jobqueue_postgres: Postgres, jobqueue_schema: Callable[[str], None]) -> str:
    """The name of the database that each test's own is copied from: migrated, with the host's tables in it."""
    name = f"jobqueue_template_{os.getpid()}"
    dsn = jobqueue_postgres.create_database(name)
    migrate(dsn)
    jobqueue_schema(dsn)
    return name


@pytest.fixture
def jobqueue_database(jobqueue_postgres: Postgres, jobqueue_template: str) -> Iterator[str]:
    """libpq URL of a database of the test's own; dropped afterwards, with whatever session is left in it."""
    name = f"jobqueue_test_{os.getpid()}_{next(_numbers)}"
    yield jobqueue_postgres.create_database(name, template=jobqueue_template)
    jobqueue_postgres.drop_database(name)
