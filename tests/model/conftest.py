"""A migrated database for the model test and the interleavings, each with tables of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a migrated database."""
    migrate(postgres.create_database("model_template"))
    return "model_template"
