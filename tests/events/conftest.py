"""What the tests of events share: a database for a module, and what tests of webhooks work with: see tests/events/hookyard.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.events.hookyard import Yard
from tests.publishing import migrated, shared_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.publishing import Host

    from jobqueue.demo.postgres import Postgres


@pytest.fixture(scope="module")
def shared_host(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[Host]:
    with shared_database(postgres, migrated(postgres), request.module.__name__.rpartition(".")[2]) as host:
        yield host


@pytest.fixture
def yard(shared_host: Host) -> Iterator[Yard]:
    yard = Yard(shared_host.dsn)
    yield yard
    yard.clear()
