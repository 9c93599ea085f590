"""What the tests with real processes share: a database for a module, and daemons that end with their test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.faults.ledger import Ledger
from tests.faults.proxy import Proxy
from tests.support.daemon import Launch, launching
from tests.support.host import migrated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobqueue.demo.embedded_postgres import Postgres


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
