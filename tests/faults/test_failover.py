"""The primary dies and its standby takes its place, by a URL that names both, by an address that moves, and behind a pooler."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.faults.ledger import Ledger
from tests.faults.ledger_service import reason, start
from tests.faults.pooler import Pooler, program
from tests.faults.proxy import Proxy
from tests.support.replication import Pair, frozen
from tests.support.waiting import eventually

from jobqueue.demo.launch import free_port
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.daemon import DaemonProcess, Launch

pytestmark = [pytest.mark.extended, pytest.mark.slow, pytest.mark.faults]

HOWS = ("commit", "write", "return")


def insert(ledger: Ledger, number: int, seconds: float) -> list[int]:
    return [job for how in HOWS for job in ledger.insert(how, number, seconds=seconds)]


@pytest.fixture
def make_pair(server_folder: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[bool], Pair]]:
    with ExitStack() as stack:

        def make(synchronous: bool) -> Pair:
            name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
            pair = stack.enter_context(Pair(server_folder / name, synchronous=synchronous))
            migrate(pair.dsn)
            with Ledger(pair.dsn):
                pass
            return pair

        yield make


@pytest.mark.parametrize("way", ["a URL of both", "an address that moves"])
def test_work_goes_on_with_the_standby(make_pair: Callable[[bool], Pair], launch: Launch, way: str) -> None:
    """Twice, so that the second time it is the new standby that takes over; it is synchronous, so that nothing is lost."""
    pair = make_pair(True)
    with Proxy(pair.primary.dsn) as proxy:
        dsn = pair.dsn if way == "a URL of both" else proxy.dsn
        workers = [start(launch, dsn) for _ in range(2)]
        jobs: list[int] = []
        for _ in range(2):
            with Ledger.again(pair.dsn) as ledger:
                long, short = insert(ledger, 1, 3.0), insert(ledger, 40, 0.1)
                eventually(lambda ledger=ledger, short=short: ledger.completed(short) >= 20, 30)  # type: ignore[misc]
            jobs += [*long, *short]
            pair.fail_over()
            proxy.move(pair.primary.dsn)
            with Ledger.again(pair.dsn) as ledger:
                ledger.wait(jobs, 30)
                ledger.check(jobs, attempts="failed")
            pair.rebuild()
        assert all(worker.running and worker.log(level="error") == [] for worker in workers)


def cut_off(pair: Pair) -> None:
    """Have the standby hear nothing more of its primary."""
    assert pair.standby is not None
    pair.standby.set("primary_conninfo", "")
    eventually(lambda: pair.primary.asked("SELECT count(*) FROM pg_stat_replication") == 0, 20)


def test_what_an_asynchronous_standby_lacks_runs_again(make_pair: Callable[[bool], Pair], launch: Launch) -> None:
    """Outcomes, claims and jobs are lost. Nothing is charged for that, and nothing stays as it is for ever."""
    pair = make_pair(False)
    workers = [start(launch, pair.dsn, LEASE_SECONDS="3600") for _ in range(2)]
    with Ledger.again(pair.dsn) as ledger:
        # Claimed before, and ended after the standby hears nothing more.
        claimed = insert(ledger, 2, 4.0)
        eventually(lambda: sum(len(worker.log("run_began")) for worker in workers) == len(claimed))
        waiting = insert(ledger, 10, 0.0)
        position = pair.primary.asked("SELECT pg_current_wal_lsn()")
        assert pair.standby is not None
        standby = pair.standby
        eventually(lambda: standby.asked(f"SELECT pg_last_wal_replay_lsn() >= '{position}'"))
        cut_off(pair)
        ledger.wait([*claimed, *waiting], 30)
        unknown = insert(ledger, 10, 0.0)
        ledger.wait(unknown)
        # A position that the standby never heard of was drawn by far.
        ledger.execute("SELECT setval('jobqueue.position', nextval('jobqueue.position') + 5000)")
        last = insert(ledger, 1, 0.0)
        ledger.wait(last)
    pair.fail_over()
    with Ledger.again(pair.dsn) as ledger:
        assert ledger.rows("SELECT FROM jobs WHERE id = ANY (%(jobs)s)", jobs=[*unknown, *last]) == []
        assert ledger.completed(claimed) == 0, "the test has lost no outcome"
        more = insert(ledger, 10, 0.0)
        ledger.wait([*claimed, *waiting, *more], 40)
        ledger.check([*claimed, *waiting, *more], attempts="failed")
    # Of those that ran at once the standby may have heard of the claim, and of nothing more.
    assert sum(entry["jobs"] for worker in workers for entry in worker.log("outcomes_lost")) >= len(claimed)
    assert all(worker.running and worker.log(level="error") == [] for worker in workers)


SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'jobqueue:%' AND datname = 'postgres'"


def test_commits_wait_for_a_synchronous_standby_and_nothing_piles_up(
    make_pair: Callable[[bool], Pair], launch: Launch
) -> None:
    pair = make_pair(True)
    port = free_port()
    # A heartbeat that gives up after two seconds gives up often.
    worker = start(launch, pair.dsn, port=port, LEASE_SECONDS="8")
    with Ledger.again(pair.dsn) as ledger:
        # So that every slot has its connection.
        first = insert(ledger, 8, 0.0)
        ledger.wait(first)
        jobs = insert(ledger, 1, 1.0)
        eventually(lambda: len(worker.log("run_began")) == len(first) + len(jobs))
        before = int(str(pair.primary.asked(SESSIONS)))
        assert pair.standby is not None
        pair.standby.stop("immediate")
        eventually(lambda: reason(port) == "commits wait for a synchronous standby that does not answer", 30)
        worker.wait_for("connection_cut", count=1, timeout=30)
        # Each loop may have left one behind; none leaves another.
        backs = len(worker.log("connection_cut"))
        eventually(lambda: len(worker.log("database_away")) > 0, 30)
        with pytest.raises(AssertionError):
            eventually(lambda: int(str(pair.primary.asked(SESSIONS))) > before + 8, 20, interval=0.5)
        assert len(worker.log("connection_cut")) <= backs + 8
    pair.standby.start()
    with Ledger.again(pair.dsn) as ledger:
        more = insert(ledger, 4, 0.0)
        ledger.wait([*jobs, *more], 40)
        ledger.check([*jobs, *more], attempts="failed")
    eventually(lambda: reason(port) == "ok")
    eventually(lambda: int(str(pair.primary.asked(SESSIONS))) <= before + 2, 20)
    assert worker.running


def test_two_workers_whose_server_stood_still_are_both_well(make_pair: Callable[[bool], Pair], launch: Launch) -> None:
    """Their heartbeats were cut meanwhile: neither may take the other, whose presence it sees free, for dead."""
    pair = make_pair(False)
    workers = [start(launch, pair.dsn, LEASE_SECONDS="8") for _ in range(2)]
    with Ledger.again(pair.dsn) as ledger:
        jobs = insert(ledger, 2, 12.0)
        eventually(lambda: sum(len(worker.log("run_began")) for worker in workers) == len(jobs))
    with frozen(pair.primary):
        for worker in workers:
            worker.wait_for("connection_cut", timeout=30)
    with Ledger.again(pair.dsn) as ledger:
        ledger.wait(jobs, 40)
        ledger.check(jobs, attempts="failed")
    assert [entry for worker in workers for entry in worker.log("workers_gone")] == []


@pytest.fixture
def pooled(make_pair: Callable[[bool], Pair], server_folder: Path) -> Iterator[tuple[Pair, Proxy, Pooler]]:
    """pgbouncer in front of an address that moves."""
    if program() is None:
        assert "CI" not in os.environ, "CI must have pgbouncer"
        pytest.skip("pgbouncer is not installed")
    pair = make_pair(True)
    with Proxy(pair.primary.dsn) as proxy, Pooler(server_folder / f"bouncer-{proxy.port}", proxy.dsn) as pooler:
        yield pair, proxy, pooler


def started(launch: Launch, pair: Pair, pooler: Pooler) -> list[DaemonProcess]:
    return [start(launch, pooler.dsn, DATABASE_DIRECT_URL=pair.dsn) for _ in range(2)]


@pytest.mark.servers
def test_a_pooler_that_leads_to_another_server_without_a_word(
    pooled: tuple[Pair, Proxy, Pooler], launch: Launch
) -> None:
    """Its clients keep their connections, and so what they know of the server that is gone: positions and presences."""
    pair, proxy, pooler = pooled
    workers = started(launch, pair, pooler)
    with Ledger.again(pair.dsn) as ledger:
        jobs = insert(ledger, 20, 0.0)
        ledger.wait(jobs)
    pair.fail_over()
    with psycopg.connect(pair.dsn, autocommit=True) as admin:
        # As after asynchronous losses: the server is one that has drawn fewer positions.
        admin.execute("SELECT setval('jobqueue.position', 1)")
    proxy.move(pair.primary.dsn)
    with Ledger.again(pair.dsn) as ledger:
        more = insert(ledger, 20, 0.2)
        ledger.wait(more, 40)
        ledger.check([*jobs, *more], attempts="failed")
    assert all(worker.running for worker in workers)


@pytest.mark.servers
def test_a_pooler_whose_server_is_silent(pooled: tuple[Pair, Proxy, Pooler], launch: Launch) -> None:
    pair, _, pooler = pooled
    port = free_port()
    worker = start(launch, pooler.dsn, port=port, DATABASE_DIRECT_URL=pair.dsn, LEASE_SECONDS="8")
    with Ledger.again(pair.dsn) as ledger:
        jobs = insert(ledger, 1, 2.0)
        eventually(lambda: len(worker.log("run_began")) == len(jobs))
    with frozen(pair.primary):
        eventually(lambda: reason(port) != "ok", 20)
        worker.wait_for("connection_cut", timeout=60)
    with Ledger.again(pair.dsn) as ledger:
        ledger.wait(jobs, 60)
        ledger.check(jobs, attempts="failed")
    eventually(lambda: reason(port) == "ok", 20)
    assert worker.running
