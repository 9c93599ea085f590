"""Migrated databases: one that tests take turns with, and one of the test's own for those that alter its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.schedule.helpers import Rig
from tests.support.host import migrated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    return migrated(postgres)


@pytest.fixture(scope="session")
def shared(postgres: Postgres, template: str) -> Iterator[str]:
    """libpq URL of the database that tests take turns with: making one for each would take longer than they do."""
    name = f"{template}_schedules"
    yield postgres.create_database(name, template=template)
    postgres.drop_database(name)


@pytest.fixture
def rig(shared: str) -> Iterator[Rig]:
    """A database with nothing in it."""
    with Rig(shared) as rig:
        rig.clear()
        yield rig


@pytest.fixture
def own(database: str) -> Iterator[Rig]:
    """A database that the test may alter."""
    with Rig(database) as rig:
        yield rig
