"""Two-phase commit: what a host with prepared transactions can and cannot do, by the statements of docs/how-to/adopt-a-table.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors
from tests.kernel.helpers import Rig
from tests.support.servers import make_server

from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "adopt-a-table.md"


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[str]:
    """A server that prepares transactions, which none does as it is distributed."""
    with make_server(server_folder / "prepared") as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(b"ALTER SYSTEM SET max_prepared_transactions = 5")
        server.restart()
        migrate(server.dsn)
        yield server.dsn


@pytest.fixture
def prepared(server: str) -> Iterator[Rig]:
    with Rig(server) as rig:
        rig.rows("DELETE FROM jobs")
        rig.rows("DROP TABLE IF EXISTS jobs_to_come")
        yield rig


def documented() -> list[str]:
    """The blocks of SQL of the page's section, in its order."""
    _, _, rest = _PAGE.read_text().partition("## Enqueue in a transaction that will be prepared\n")
    return re.findall(r"```sql\n(.*?)```", rest.partition("\n## ")[0], flags=re.DOTALL)


def run(rig: Rig, block: str) -> None:
    for statement in block.strip().removesuffix(";").split(";\n"):
        rig.rows(statement)


def kinds(rig: Rig) -> list[str]:
    done: list[str] = []
    rig.run_once(lambda job, _: done.append(job.columns["kind"]), columns=("kind",))
    return done


def test_a_transaction_that_enqueues_cannot_be_prepared(prepared: Rig) -> None:
    prepared.rows("BEGIN")
    prepared.rows("INSERT INTO jobs (kind) VALUES ('invoice')")
    with pytest.raises(errors.FeatureNotSupported) as refused:
        prepared.rows("PREPARE TRANSACTION 'order 7'")
    assert str(refused.value) in _PAGE.read_text()


def test_rows_to_come_become_jobs_once_the_transaction_is_committed(prepared: Rig) -> None:
    table, transaction, _ = documented()
    run(prepared, table)
    run(prepared, transaction)
    assert kinds(prepared) == ["invoice"]
    move = transaction.strip().rpartition(";\n")[2].removesuffix(";")
    prepared.rows("INSERT INTO jobs_to_come (kind) VALUES ('left')")
    for _ in range(2):
        prepared.rows(move)
    assert kinds(prepared) == ["left"]
    assert prepared.states() == {"completed": 2}


@pytest.mark.extended
def test_without_notifications_jobs_are_prepared_and_found_by_polling(prepared: Rig) -> None:
    _, _, quiet = documented()
    run(prepared, quiet)
    for key, priority in (("a", 5), ("a", 9)):
        prepared.rows("BEGIN")
        prepared.rows("INSERT INTO jobs (kind, unique_key, priority) VALUES ('invoice', %s, %s)", key, priority)
        prepared.rows("PREPARE TRANSACTION 'order 7'")
        prepared.rows("COMMIT PREPARED 'order 7'")
    assert prepared.states() == {"pending": 1}
    assert kinds(prepared) == ["invoice"]
    # What is adopted again notifies again.
    prepared.rows("SELECT jobqueue.adopt('public.jobs', coalesce_by => 'unique_key')")
    assert (
        prepared.value(
            "SELECT tgenabled FROM pg_trigger WHERE tgname = 'jobqueue_5_wake_insert' AND tgrelid = 'jobs'::regclass"
        )
        == "O"
    )
