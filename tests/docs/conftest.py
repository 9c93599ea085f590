"""A reader with a migrated database of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.docs.page import Reader
from tests.support.host import migrated

if TYPE_CHECKING:
    from pathlib import Path

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a migrated database."""
    return migrated(postgres)


@pytest.fixture
def reader(database: str, tmp_path: Path) -> Reader:
    return Reader(tmp_path, database)
