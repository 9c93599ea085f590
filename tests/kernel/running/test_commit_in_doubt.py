"""Whether a commit happened: asked of the server, which knows until it is started anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.servers import make_server

from jobqueue.kernel.running.commit_in_doubt import CommitInDoubt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.helpers import Rig

    from jobqueue.demo.embedded_postgres import StopMode


@pytest.fixture
def first(rig: Rig) -> Iterator[psycopg.Connection[Any]]:
    """A connection in a transaction that has written."""
    with rig.connect(autocommit=False) as connection:
        connection.execute(b"CREATE TABLE written (n int)")
        yield connection


def test_a_transaction_that_was_committed(rig: Rig, first: psycopg.Connection[Any]) -> None:
    in_doubt = CommitInDoubt(first)
    first.commit()
    assert in_doubt.settle(rig.sql) == "committed"


def test_a_transaction_that_was_rolled_back(rig: Rig, first: psycopg.Connection[Any]) -> None:
    in_doubt = CommitInDoubt(first)
    first.rollback()
    assert in_doubt.settle(rig.sql) == "aborted"


def test_a_transaction_that_is_open_still(rig: Rig, first: psycopg.Connection[Any]) -> None:
    assert CommitInDoubt(first).settle(rig.sql) == "in progress"


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_id_of_a_transaction_says_nothing_after_a_restart(server_folder: Path, mode: StopMode) -> None:
    """In order or not: a server whose data are a copy of another's, statistics and all, would look like this one."""
    with make_server(server_folder / mode, careless=False) as postgres:
        dsn = postgres.create_database("doubted")
        with psycopg.connect(dsn) as connection:
            in_doubt = CommitInDoubt(connection)
            connection.commit()
        postgres.restart(mode)
        with psycopg.connect(dsn) as connection:
            assert in_doubt.settle(connection) is None
