"""What the tests of publishing share: a database, a bucket and a worker for a module, each emptied for a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.publishing import Bucket, GatedWorker, Host, migrated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres
    from jobqueue.demo.object_store import ObjectStore


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


@pytest.fixture(scope="module")
def shared_bucket(object_store: ObjectStore) -> Iterator[Bucket]:
    with Bucket(object_store) as bucket:
        yield bucket


@pytest.fixture
def bucket(shared_bucket: Bucket) -> Bucket:
    shared_bucket.clear()
    return shared_bucket
