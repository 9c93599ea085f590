"""What the tests with real processes share: a database for a module, and daemons that end with their test."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import pytest
from tests.faults.ledger import Ledger
from tests.faults.outage import suffer
from tests.faults.proxy import Proxy
from tests.support.daemon import Launch, launching
from tests.support.host import migrated
from tests.support.s3 import Bucket

from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobqueue.demo.object_store import ObjectStore


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    return migrated(postgres)


@pytest.fixture(scope="module")
def ledger(postgres: Postgres, template: str, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    name = f"{template}_{request.module.__name__.rpartition('.')[2]}"
    with Ledger(postgres.create_database(name, template=template)) as ledger:
        yield ledger
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def proxy(ledger: Ledger) -> Iterator[Proxy]:
    """The way of a module's workers to its ledger."""
    with Proxy(ledger.dsn) as proxy:
        yield proxy


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts daemons that end with the test: called as DaemonProcess is, without the file for its output."""
    with launching(tmp_path) as launch:
        yield launch


@pytest.fixture(scope="session", autouse=True)
def outage(
    request: pytest.FixtureRequest,
    server_folder: Path,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Future[None] | None]:
    """The outage under way beside the other tests of this folder; None when its own test is not to run."""
    if all(item.path.name != "test_outage.py" for item in request.session.items):
        yield None
        return
    with (
        ThreadPoolExecutor(1, thread_name_prefix="outage") as thread,
        Postgres(server_folder / "outage") as postgres,
        Bucket(object_store) as bucket,
        launching(tmp_path_factory.mktemp("outage")) as launch,
    ):
        migrate(postgres.dsn)
        under_way = thread.submit(suffer, postgres, bucket, launch)
        yield under_way
        wait([under_way])
