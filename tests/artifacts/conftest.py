"""A migrated database for each test, two stores, and an origin: see tests/artifacts/helpers.py."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from tests.artifacts.helpers import MediaOrigin, Projects, Yard
from tests.support.host import migrated
from tests.support.s3 import Bucket, strict_store

from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a migrated database."""
    return migrated(postgres)


@pytest.fixture
def host(database: str) -> Iterator[Projects]:
    with Projects(database) as host:
        yield host


@pytest.fixture
def origin() -> Iterator[MediaOrigin]:
    with MediaOrigin({}) as origin:
        yield origin


@pytest.fixture
def yard(host: Projects, origin: MediaOrigin, shared_bucket: Bucket) -> Iterator[Yard]:
    """On a store that keeps bytes: rclone."""
    yield Yard(host, origin, shared_bucket.objects)
    shared_bucket.clear()


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """A store that keeps to the protocol: it lists and aborts uploads, and enforces the sizes of parts."""
    with strict_store() as endpoint:
        yield endpoint


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
