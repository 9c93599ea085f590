"""A worker that stood still for longer than its lease, and then goes on."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.daemon import worker_environment
from tests.support.host import Host, shared_database
from tests.support.jpeg import picture
from tests.support.origin import SteadyOrigin
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Launch
    from tests.support.s3 import Bucket

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def host(postgres: Postgres, template: str) -> Iterator[Host]:
    with shared_database(postgres, template, "zombie") as host:
        yield host


def test_a_zombie_changes_nothing_that_its_successor_wrote_and_works_on(
    host: Host, bucket: Bucket, launch: Launch
) -> None:
    keys = ("one", "two", "three")
    files = {key: picture(20 + seed) for seed, key in enumerate((*keys, "later"))}
    with SteadyOrigin(files) as origin:
        environment = worker_environment(host.dsn, origin, bucket, LEASE_SECONDS=2, WORKER_POLL_INTERVAL=500)
        # The successor keeps what it has, also where it has to wait for the processor.
        patient = {**environment, "LEASE_SECONDS": "8"}
        for key in keys:
            origin.hold[key] = 1
        jobs = [host.enqueue(key) for key in keys]
        zombie = launch(environment)
        eventually(lambda: origin.holding == len(keys), 30)
        successor = launch(patient)
        successor.wait_for("worker_started")
        zombie.send(signal.SIGSTOP)
        eventually(lambda: host.states() == {"completed": len(keys)}, 20)
        written = [(host.job(job), host.file_of(job)) for job in jobs]
        objects = bucket.contents()
        assert [job["retry_count"] for job, _ in written] == [1, 1, 1]
        attempts = host.rows("SELECT * FROM jobqueue.attempts ORDER BY id")
        ended = [[row["outcome"] for row in attempts if row["job_id"] == str(job)] for job in jobs]
        assert ended == [["crashed", "completed"]] * 3
        assert all(
            {"download", "decode", "encode"} <= set(row["stages"] or {})
            for row in attempts
            if row["outcome"] == "completed"
        )

        # What it was waiting for when it stood still arrives now, and it has everything to finish the jobs again.
        origin.release()
        zombie.send(signal.SIGCONT)
        zombie.wait_for("job_finished", count=len(keys), outcome="lease_lost")
        assert [(host.job(job), host.file_of(job)) for job in jobs] == written
        assert host.rows("SELECT * FROM jobqueue.attempts ORDER BY id") == attempts
        assert bucket.contents() == objects
        assert zombie.log("job_finished", queue="publish_jobs", outcome="completed") == []
        assert {entry["job_id"] for entry in zombie.log("lease_lost")} == {str(job) for job in jobs}

        successor.send(signal.SIGTERM)
        assert successor.wait() == 0
        later = host.enqueue("later")
        zombie.wait_for("job_finished", outcome="completed", job_id=str(later))
        assert (host.job(later)["status"], host.job(later)["retry_count"]) == ("completed", 0)


@pytest.mark.extended
def test_a_worker_that_stands_still_in_its_last_transaction_does_not_keep_the_job(
    host: Host, bucket: Bucket, launch: Launch
) -> None:
    """Its transaction holds the row locked, so that nobody could take the job over, until the server ends it."""
    with SteadyOrigin({"photo": picture(30)}) as origin:
        environment = worker_environment(host.dsn, origin, bucket, LEASE_SECONDS=2, WORKER_POLL_INTERVAL=500)
        patient = {**environment, "LEASE_SECONDS": "8"}
        job = host.enqueue("photo", run_after="2999-01-01")
        with psycopg.connect(host.dsn) as lock:
            lock.execute("SELECT FROM auction_files FOR UPDATE")
            host.execute("UPDATE publish_jobs SET run_after = now()")
            zombie = launch(environment)
            waits = (
                "SELECT FROM pg_stat_activity WHERE application_name = 'jobqueue:handler' AND wait_event_type = 'Lock'"
            )
            eventually(lambda: host.rows(waits), 30)
            successor = launch(patient)
            successor.wait_for("worker_started")
            zombie.send(signal.SIGSTOP)
        # The statement that waited goes through now; its commit never comes.
        eventually(lambda: host.job(job)["status"] == "completed", 20)
        written = host.job(job), host.file_of(job)
        assert written[0]["retry_count"] == 1

        zombie.send(signal.SIGCONT)
        zombie.wait_for("job_finished", outcome="lease_lost", job_id=str(job))
        assert (host.job(job), host.file_of(job)) == written
