"""A migrated database for each test, with a table of a host's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.kernel.helpers import Rig
from tests.support.host import migrated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    return migrated(postgres)


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    """`invoices` is a queue, `drafts` is a table that was not adopted."""
    with Rig(database) as rig:
        for table in ("invoices", "drafts"):
            rig.sql.execute(
                f"CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, "
                "amount numeric NOT NULL DEFAULT 1, due date, tags text[] NOT NULL DEFAULT '{}')".encode()
            )
        rig.sql.execute(b"SELECT jobqueue.adopt('invoices')")
        yield rig
