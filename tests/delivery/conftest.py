"""A migrated database for each test, two stores, and an origin: see tests/delivery/yard.py."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from moto.server import ThreadedMotoServer
from tests.delivery.yard import MediaOrigin, Projects, Yard
from tests.publishing import Bucket, migrated

from jobqueue.kernel import listener
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.object_store import ObjectStore
    from jobqueue.demo.postgres import Postgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a migrated database."""
    return migrated(postgres)


@pytest.fixture(autouse=True)
def quick_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain waits for the listener, which looks up twice a second: too long for a hundred tests."""
    monkeypatch.setattr(listener, "_GLANCE", 0.02)


@pytest.fixture
def host(database: str) -> Iterator[Projects]:
    with Projects(database) as host:
        yield host


@pytest.fixture
def origin() -> Iterator[MediaOrigin]:
    with MediaOrigin({}) as origin:
        yield origin


@pytest.fixture(scope="session")
def shared_bucket(object_store: ObjectStore) -> Iterator[Bucket]:
    with Bucket(object_store) as bucket:
        yield bucket


@pytest.fixture
def yard(host: Projects, origin: MediaOrigin, shared_bucket: Bucket) -> Iterator[Yard]:
    """On a store that keeps bytes: rclone."""
    yield Yard(host, origin, shared_bucket.objects)
    shared_bucket.clear()


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """A store that keeps to the protocol: it lists and aborts uploads, and enforces the sizes of parts."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def strict_objects(moto_endpoint: str) -> Iterator[Objects]:
    """A bucket of the test's own at a store that keeps to the protocol."""
    objects = Objects(moto_endpoint, "key", "secret-key", f"bucket-{next(_numbers)}", "us-east-1")
    objects.client.create_bucket(Bucket=objects.bucket)
    yield objects
    objects.close()


@pytest.fixture
def strict_yard(host: Projects, origin: MediaOrigin, strict_objects: Objects) -> Yard:
    """On a store that keeps to the protocol: moto."""
    return Yard(host, origin, strict_objects)
