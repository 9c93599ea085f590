"""A migrated database for each test, copied from a template; and what tests of the kernel work with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.kernel.held_job import Held
from tests.kernel.helpers import Rig

from jobqueue.kernel.running.transactions import Transactions
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a migrated database."""
    migrate(postgres.create_database("kernel_template"))
    return "kernel_template"


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    with Rig(database) as rig:
        yield rig


@pytest.fixture
def held(rig: Rig) -> Iterator[Held]:
    rig.sql.execute(b"CREATE TABLE effects (pid int DEFAULT pg_backend_pid())")
    rig.insert()
    [job] = rig.claim()
    transactions = Transactions(rig.dsn, 2)
    transactions.open()
    yield Held(rig, job, transactions)
    transactions.close()
