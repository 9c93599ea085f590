"""One migrated database for the tests of what hosts call; each test finds no jobs in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.host import migrated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture(scope="session")
def shared_dsn(postgres: Postgres) -> str:
    """libpq URL of a migrated database."""
    return postgres.dsn_of(migrated(postgres))


@pytest.fixture
def database(shared_dsn: str) -> str:
    """The same, without any job."""
    with psycopg.connect(shared_dsn, autocommit=True) as connection:
        connection.execute(b"TRUNCATE jobs")
    return shared_dsn


@pytest.fixture
def watcher(database: str) -> Iterator[psycopg.Connection[Any]]:
    """Another session, which sees what was committed."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection
