"""The way to the database goes silent: what is sent is taken and never answered, and nobody is told. New connections pass again later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.faults.ledger import Ledger, runs
from tests.faults.proxy import Proxy
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Launch

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LEASE_SECONDS = 3
ANSWER_SECONDS = 0.8


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    with Ledger(database) as ledger:
        yield ledger


@pytest.fixture
def proxy(ledger: Ledger) -> Iterator[Proxy]:
    with Proxy(ledger.dsn) as proxy:
        yield proxy


@pytest.mark.extended
def test_loops_cut_connections_that_went_silent_and_go_on(ledger: Ledger, proxy: Proxy, launch: Launch) -> None:
    # Leases outlast the silence by far, also where the worker has to wait for the processor: they are renewed after it.
    lease = 3 * LEASE_SECONDS
    worker = ledger.start(launch, proxy.dsn, lease=lease, answer=ANSWER_SECONDS)
    long = ledger.insert("return", 2, seconds=1.5 * lease)
    short = ledger.insert("return", 100, seconds=0.1)
    eventually(lambda: ledger.completed(short) >= 20)
    proxy.silence()
    # Whatever asks for something meanwhile is cut: the heartbeat, the rescuer, and whoever claims or records.
    worker.wait_for("connection_cut", count=3, timeout=10)
    proxy.speak()
    ledger.wait([*long, *short], 3 * lease)
    ledger.check([*long, *short])
    # Its leases did not run out, so that it kept its jobs, and nobody else began them.
    assert runs(worker) == dict.fromkeys([*long, *short], 1)
    assert {entry["loop"] for entry in worker.log("database_back")} >= {"heartbeat", "rescue", "complete"}
    assert worker.running
    assert worker.log(level="error") == []


@pytest.mark.extended
def test_jobs_go_to_others_while_their_worker_is_cut_off(ledger: Ledger, proxy: Proxy, launch: Launch) -> None:
    cut_off = ledger.start(launch, proxy.dsn, lease=2, answer=ANSWER_SECONDS)
    jobs = ledger.insert("commit", 4, seconds=4)
    eventually(lambda: len(cut_off.log("run_began")) == len(jobs))
    proxy.silence()
    # Its own leases are not what is tested here.
    other = ledger.start(launch, ledger.dsn)
    ledger.wait(jobs)
    ledger.check(jobs, retries=1)
    assert runs(other) == dict.fromkeys(jobs, 1)
    proxy.speak()
    # It waited for an answer about its leases, and learns now that they are lost: it did nothing meanwhile.
    cut_off.wait_for("job_finished", count=len(jobs), outcome="lease_lost")
    assert runs(cut_off) == {}
    ledger.check(jobs, retries=1)
    assert cut_off.running
    more = ledger.insert("return", 20, seconds=0.05)
    ledger.wait(more)
    ledger.check(more)


@pytest.mark.extended
def test_a_transaction_that_went_silent_does_not_keep_its_slot(ledger: Ledger, proxy: Proxy, launch: Launch) -> None:
    worker = ledger.start(launch, proxy.dsn, concurrency=2, lease=LEASE_SECONDS, answer=ANSWER_SECONDS)
    with psycopg.connect(ledger.dsn) as lock:
        lock.execute("LOCK TABLE effects IN EXCLUSIVE MODE")
        jobs = ledger.insert("commit", 2)
        waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        eventually(lambda: len(ledger.rows(waits)) == len(jobs))
        proxy.silence()
    proxy.speak()
    more = ledger.insert("return", 2)
    ledger.wait([*jobs, *more], 3 * LEASE_SECONDS)
    # Its own abandoned transaction holds the row of each until the server ends it, and the lease may run out meanwhile.
    ledger.check(jobs, retries=None)
    ledger.check(more)
    assert worker.running


@pytest.mark.extended
def test_an_idle_connection_that_went_silent_is_not_used(ledger: Ledger, proxy: Proxy, launch: Launch) -> None:
    worker = ledger.start(launch, proxy.dsn, lease=LEASE_SECONDS, answer=ANSWER_SECONDS)
    before = ledger.insert("commit", 8)
    ledger.wait(before)
    proxy.silence()
    proxy.speak()
    after = ledger.insert("commit", 8)
    ledger.wait(after, 3 * LEASE_SECONDS)
    ledger.check([*before, *after])
    assert worker.running


@pytest.mark.extended
@pytest.mark.parametrize("name", ["start", "claim", "complete", "heartbeat", "handler"])
def test_a_connection_that_falls_silent_as_it_is_opened_is_given_up(
    ledger: Ledger, proxy: Proxy, launch: Launch, name: str
) -> None:
    """Each new connection asks for its process id first, to see whether it leads to a pooler."""
    loss = proxy.lose("SELECT pg_backend_pid()", name=f"jobqueue:{name}", times=2, silently=True)
    worker = ledger.start(launch, proxy.dsn, lease=LEASE_SECONDS, answer=ANSWER_SECONDS)
    jobs = ledger.insert("commit", 4, seconds=0.1) + ledger.insert("return", 4, seconds=0.1)
    ledger.wait(jobs, 8)
    eventually(lambda: len(loss.commands) == 2, 5)
    ledger.check(jobs)
    assert runs(worker) == dict.fromkeys(jobs, 1)
    assert worker.running
