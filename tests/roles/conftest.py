"""A server whose roles were made by an administrator who is no superuser, and databases of his."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.roles.helpers import Administered
from tests.support.servers import make_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobqueue.demo.embedded_postgres import Postgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(server_folder: Path) -> Iterator[Postgres]:
    """A server of these tests' own, because roles belong to a server. Its role `admin` may create roles and is no superuser."""
    with make_server(server_folder / "roles") as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(b"CREATE ROLE admin CREATEROLE LOGIN PASSWORD 'p'")
        yield server


@pytest.fixture
def administered(cluster: Postgres) -> Iterator[Administered]:
    """A database that the administrator owns, with nothing in it, into which the roles have been let."""
    with _database(cluster) as administered:
        assert administered.let_in() == []
        yield administered


@pytest.fixture
def untouched(cluster: Postgres) -> Iterator[Administered]:
    """The same, into which nobody has been let."""
    with _database(cluster) as administered:
        yield administered


@contextmanager
def _database(cluster: Postgres) -> Iterator[Administered]:
    name = f"roles_{next(_numbers)}"
    with Administered(cluster.create_database(name)) as administered:
        yield administered
    cluster.drop_database(name)
