"""One connection goes silent where it hurts: after its statement was carried out, before the answer arrives, and nobody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.daemon import launching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.ledger import Ledger
    from tests.faults.proxy import Proxy
    from tests.support.daemon import DaemonProcess

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LEASE_SECONDS = 6
ANSWER_SECONDS = 0.8


@pytest.fixture(scope="module")
def worker(ledger: Ledger, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with launching(tmp_path_factory.mktemp("silent")) as launch:
        yield ledger.start(launch, proxy.dsn, lease=LEASE_SECONDS, answer=ANSWER_SECONDS)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("claim", "FOR NO KEY UPDATE SKIP LOCKED"),
        ("complete", "completed_at"),
        ("handler", "COMMIT"),
        ("handler", "INSERT INTO effects"),
    ],
)
def test_an_answer_that_never_comes_is_not_waited_for(
    ledger: Ledger, proxy: Proxy, worker: DaemonProcess, name: str, text: str
) -> None:
    loss = proxy.lose(text, name=f"jobqueue:{name}", silently=True)
    jobs = ledger.insert("return", 4, seconds=0.01) + ledger.insert("commit", 4, seconds=0.01)
    ledger.wait(jobs)
    assert len(loss.commands) == 1
    # A transaction that the silence has left open holds its job's row: until the server ends it, nobody can have the job.
    ledger.check(jobs, retries=None if text.startswith("INSERT") else 0)
    assert worker.running
