"""The server carries a statement out, and its answer is lost on the way: whoever asked has to find out what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.faults.ledger import Ledger, runs
from tests.support.daemon import launching
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.proxy import Proxy
    from tests.support.daemon import DaemonProcess

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LEASE_SECONDS = 3


@pytest.fixture(scope="module")
def worker(ledger: Ledger, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with launching(tmp_path_factory.mktemp("answers")) as launch:
        yield ledger.start(launch, proxy.dsn, lease=LEASE_SECONDS)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "text", "how"),
    [
        ("handler", "COMMIT", "commit"),
        ("handler", "INSERT INTO effects", "commit"),
        ("handler", "COMMIT", "write"),
        ("complete", "completed_at", "return"),
        ("complete", "completed_at", "write"),
    ],
)
def test_the_outcome_is_recorded_once_and_the_job_runs_once(
    ledger: Ledger, proxy: Proxy, worker: DaemonProcess, name: str, text: str, how: str
) -> None:
    loss = proxy.lose(text, name=f"jobqueue:{name}", times=3)
    jobs: list[int] = []
    # Outcomes are recorded in batches: jobs come until there were enough of them.
    while len(loss.commands) < 3:
        jobs += ledger.insert(how, 8, seconds=0.01)
        ledger.wait(jobs)
    ledger.check(jobs)
    assert {job: runs(worker)[job] for job in jobs} == dict.fromkeys(jobs, 1)
    assert worker.running


def test_a_claim_whose_answer_was_lost_is_given_back_without_a_charge(
    ledger: Ledger, proxy: Proxy, worker: DaemonProcess
) -> None:
    before = len(worker.log("claim_given_back"))
    loss = proxy.lose("FOR NO KEY UPDATE SKIP LOCKED", name="jobqueue:claim", times=2)
    jobs = ledger.insert("commit", 8, seconds=0.01)
    ledger.wait(jobs)
    assert len(loss.commands) == 2
    assert all("lease_token" in command for command in loss.commands)
    # Nobody ran them under the lost claims, so they need not wait for those leases to run out.
    assert sum(entry["jobs"] for entry in worker.log("claim_given_back")[before:]) >= 1
    ledger.check(jobs)
    assert {job: runs(worker)[job] for job in jobs} == dict.fromkeys(jobs, 1)


@pytest.mark.extended
def test_renewals_whose_answer_was_lost_do_not_cost_the_lease(
    ledger: Ledger, proxy: Proxy, worker: DaemonProcess
) -> None:
    loss = proxy.lose("lease_expires_at", name="jobqueue:heartbeat", times=3)
    jobs = ledger.insert("commit", 2, seconds=LEASE_SECONDS * 1.5)
    ledger.wait(jobs)
    assert loss.commands
    proxy.keep(loss)
    ledger.check(jobs)
    assert {job: runs(worker)[job] for job in jobs} == dict.fromkeys(jobs, 1)


def test_a_rescue_whose_answer_was_lost_charges_one_attempt(
    ledger: Ledger, proxy: Proxy, worker: DaemonProcess
) -> None:
    loss = proxy.lose("crash_count", name="jobqueue:rescue")
    [job] = ledger.rows(
        """
        INSERT INTO jobs (kind, payload, status, lease_token, lease_expires_at, locked_by)
        VALUES ('ledger', '{"how": "commit"}', 'processing', gen_random_uuid(), now() - interval '1 s', 'a worker that died')
        RETURNING id
        """
    )
    ledger.wait([job["id"]])
    eventually(lambda: loss.commands)
    ledger.check([job["id"]], retries=1)
    assert runs(worker)[job["id"]] == 1
