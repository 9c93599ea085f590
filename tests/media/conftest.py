"""What the tests of publishing share: a database and a worker for a module, emptied for a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.gated_worker import GatedWorker
from tests.support.host import Host, migrated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    return migrated(postgres)


@pytest.fixture
def host(shared_host: Host) -> Host:
    shared_host.clear()
    return shared_host


@pytest.fixture(scope="module")
def worker(shared_host: Host) -> Iterator[GatedWorker]:
    with GatedWorker(shared_host) as worker:
        yield worker
