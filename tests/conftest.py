"""Real servers for the tests: one PostgreSQL and one S3-compatible store a session, one database a test."""

from __future__ import annotations

import itertools
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from tests.support.host import migrated, shared_database
from tests.support.s3 import Bucket
from tests.support.servers import make_server, refuse_compiled

from jobqueue.demo.leash import reachable_folder, unprivileged_user
from jobqueue.demo.object_store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from tests.support.host import Host

    from jobqueue.demo.embedded_postgres import Postgres

_numbers = itertools.count(1)

_files_with_long_tests: set[Path] = set()

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Slow without a mark of its own: what `make test` leaves out, and what has a database made for it."""
    if item.get_closest_marker("slow"):
        _files_with_long_tests.add(item.path)
    left_out = any(item.get_closest_marker(name) for name in ("extended", "servers", "registries"))
    if left_out or "database" in getattr(item, "fixturenames", ()):
        item.add_marker("slow")


# After pytest-randomly has shuffled them.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: where several processes share them out, none is left alone with a long one."""
    items.sort(key=lambda item: item.path not in _files_with_long_tests)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what was written meanwhile fit for another process: a half of a surrogate pair, which some tests log, is not."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder for servers' files that the unprivileged user of a root session can reach, unlike pytest's own."""
    folder = reachable_folder("jobqueue-tests-", unprivileged_user())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[Postgres]:
    """The session's PostgreSQL server. Shared: a test that stops or restarts one starts its own."""
    with make_server(server_folder / "postgres") as server:
        yield server
        refuse_compiled(server)


@pytest.fixture(scope="session")
def template() -> str | None:
    """The name of the database that each test's own is copied from; override it to start from more than an empty one."""
    return None


@pytest.fixture
def database(postgres: Postgres, template: str | None) -> Iterator[str]:
    """libpq URL of a fresh database of the test's own; dropped afterwards, with whatever session is left in it."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    yield postgres.create_database(name, template=template)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def shared_host(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host's view of a migrated database that the tests of a module take turns with."""
    with shared_database(postgres, migrated(postgres), request.module.__name__.rpartition(".")[2]) as host:
        yield host


@pytest.fixture(scope="session")
def object_store(server_folder: Path) -> Iterator[ObjectStore]:
    """The session's S3-compatible server. Shared: a test that stops it starts its own."""
    with ObjectStore(server_folder / "store") as server:
        yield server


@pytest.fixture(scope="module")
def shared_bucket(object_store: ObjectStore) -> Iterator[Bucket]:
    """A bucket that the tests of a module take turns with."""
    with Bucket(object_store) as bucket:
        yield bucket


@pytest.fixture
def bucket(shared_bucket: Bucket) -> Bucket:
    """The module's bucket with nothing in it."""
    shared_bucket.clear()
    return shared_bucket
