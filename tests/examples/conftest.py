"""A migrated database for each test of an example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.host import migrated

if TYPE_CHECKING:
    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a migrated database."""
    return migrated(postgres)
