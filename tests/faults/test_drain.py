"""A worker that is told to stop with jobs in flight."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.support.daemon import worker_environment
from tests.support.host import Host
from tests.support.jpeg import picture
from tests.support.origin import SteadyOrigin
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import DaemonProcess, Launch
    from tests.support.s3 import Bucket

pytestmark = [pytest.mark.slow, pytest.mark.faults]

HEARTBEATS = (
    "SELECT FROM pg_stat_activity WHERE application_name = 'jobqueue:heartbeat' AND datname = current_database()"
)
LEASES = "SELECT lease_expires_at FROM publish_jobs WHERE lease_expires_at IS NOT NULL ORDER BY id"


@pytest.fixture
def host(database: str) -> Iterator[Host]:
    with Host(database) as host:
        yield host


def held_up(host: Host, origin: SteadyOrigin, keys: list[str]) -> None:
    """Queue `keys`, whose downloads are held by the origin."""
    for key in keys:
        origin.hold[key] = 1
        host.enqueue(key)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_jobs_in_flight_finish_and_nothing_else_begins(
    host: Host, bucket: Bucket, launch: Launch, number: signal.Signals
) -> None:
    with SteadyOrigin({f"photo-{n}": picture(40 + n) for n in range(2)}) as origin:
        variables = {"LEASE_SECONDS": 4, "DRAIN_TIMEOUT": 60, "CONCURRENCY": 3, "WORKER_POLL_INTERVAL": 500}
        held_up(host, origin, ["photo-0", "photo-1"])
        worker = launch(worker_environment(host.dsn, origin, bucket, **variables))
        eventually(lambda: origin.holding == 2, 30)
        # One slot is free: only the signal keeps the worker from this job.
        worker.send(number)
        worker.wait_for("drain_started")
        waiting = host.enqueue("photo-0")

        # The heartbeat goes on, for longer than the lease that the jobs had when the signal came.
        before = [row["lease_expires_at"] for row in host.rows(LEASES)]
        now = "SELECT clock_timestamp() AS now"
        eventually(lambda: host.rows(now)[0]["now"] > max(before), interval=0.1)
        assert len(host.rows(HEARTBEATS)) == 1
        assert all(row["lease_expires_at"] > old for row, old in zip(host.rows(LEASES), before, strict=True))
        assert worker.running

        origin.release()
        assert worker.wait() == 0
    assert host.states() == {"completed": 2, "pending": 1}
    assert {row["retry_count"] for row in host.rows("SELECT retry_count FROM publish_jobs")} == {0}
    row = host.job(waiting)
    assert row["started_at"] is row["locked_by"] is row["lease_token"] is None
    assert _last_event(worker) == "stopped"
    assert worker.log("stopped", finished=True)


@pytest.mark.extended
def test_jobs_that_do_not_finish_are_pending_at_once(host: Host, bucket: Bucket, launch: Launch) -> None:
    """One worker runs out of its time to drain, another is told twice: neither job is charged an attempt."""
    with SteadyOrigin() as origin:
        held_up(host, origin, ["one", "two"])
        common = {"CONCURRENCY": 1, "WORKER_POLL_INTERVAL": 500}
        patient = launch(worker_environment(host.dsn, origin, bucket, DRAIN_TIMEOUT=600, **common))
        brief = launch(worker_environment(host.dsn, origin, bucket, DRAIN_TIMEOUT=1, **common))
        eventually(lambda: origin.holding == 2, 30)
        patient.send(signal.SIGTERM)
        patient.wait_for("drain_started")
        brief.send(signal.SIGTERM)
        brief.wait_for("drain_started")
        patient.send(signal.SIGINT)
        assert patient.wait(10) == 0
        assert brief.wait(10) == 0

        assert host.states() == {"pending": 2}
        for row in host.rows("SELECT *, run_after <= now() AS due FROM publish_jobs"):
            assert (row["retry_count"], row["crash_count"], row["error_message"]) == (0, 0, None)
            assert row["due"]
            assert row["position"] is not None
            assert row["locked_by"] is row["lease_expires_at"] is None
        assert {row["publish_status"] for row in host.rows("SELECT publish_status FROM auction_files")} == {"pending"}
        for worker in (patient, brief):
            assert len(worker.log("job_finished", queue="publish_jobs", outcome="released")) == 1
            assert _last_event(worker) == "stopped"


@pytest.mark.extended
def test_released_jobs_run_at_once_elsewhere(host: Host, bucket: Bucket, launch: Launch) -> None:
    with SteadyOrigin({"photo": picture(45)}) as origin:
        held_up(host, origin, ["photo"])
        # Nothing but the release itself can wake the other: it polls once an hour.
        common = {"WORKER_POLL_INTERVAL": 3_600_000, "LEASE_SECONDS": 600}
        first = launch(worker_environment(host.dsn, origin, bucket, DRAIN_TIMEOUT=0, **common))
        eventually(lambda: origin.holding == 1, 30)
        second = launch(worker_environment(host.dsn, origin, bucket, **common))
        second.wait_for("worker_started")
        first.send(signal.SIGTERM)
        assert first.wait(10) == 0
        finished = second.wait_for("job_finished", queue="publish_jobs", outcome="completed", timeout=10)
        assert finished["attempt"] == 1
    assert host.states() == {"completed": 1}


def _last_event(worker: DaemonProcess) -> str:
    return str(worker.log()[-1]["event"])
