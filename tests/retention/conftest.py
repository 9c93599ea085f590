"""Migrated databases as the tests of schedules have them: a run of retention is a job of the queue `jobs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.schedule.helpers import Rig
from tests.support.host import migrated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Host

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture
def rig(shared_host: Host) -> Iterator[Rig]:
    """A database with nothing in it, that tests take turns with."""
    with Rig(shared_host.dsn) as rig:
        rig.clear()
        yield rig


@pytest.fixture
def own(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A database that the test may alter."""
    name = f"own_{request.node.name}"[:60]
    with Rig(postgres.create_database(name, template=migrated(postgres))) as rig:
        yield rig
    postgres.drop_database(name)
