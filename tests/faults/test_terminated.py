"""The server ends a connection of a worker while it is at work: each kind in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.faults.ledger import Ledger, runs
from tests.support.daemon import launching
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import DaemonProcess

pytestmark = [pytest.mark.slow, pytest.mark.faults]

NAMES = ("claim", "complete", "heartbeat", "rescue", "handler")


@pytest.fixture(scope="module")
def worker(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with launching(tmp_path_factory.mktemp("terminated")) as launch:
        yield ledger.start(launch, ledger.dsn)


@pytest.mark.extended
@pytest.mark.parametrize("name", NAMES)
def test_a_terminated_connection_costs_nothing(ledger: Ledger, worker: DaemonProcess, name: str) -> None:
    def backends() -> set[int]:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = %(n)s AND datname = current_database()"
        return {row["pid"] for row in ledger.rows(query, n=f"jobqueue:{name}")}

    jobs = [job for how in ("commit", "write", "return") for job in ledger.insert(how, 20, seconds=0.03, held=0.05)]
    for share in (0.2, 0.6):
        eventually(lambda share=share: ledger.completed(jobs) >= share * len(jobs), 20, interval=0.02)  # type: ignore[misc]
        ended = eventually(backends)
        for backend in ended:
            ledger.rows("SELECT pg_terminate_backend(%(pid)s)", pid=backend)
        eventually(lambda ended=ended: not backends() & ended)  # type: ignore[misc]
    ledger.wait(jobs)
    ledger.check(jobs)
    assert {job: runs(worker)[job] for job in jobs} == dict.fromkeys(jobs, 1)
    # It is there again, as soon as there is something for it to do.
    more = ledger.insert("commit", 4)
    ledger.wait(more)
    ledger.check(more)
    eventually(backends, 10)
    assert worker.running
    assert worker.log(level="error") == []
