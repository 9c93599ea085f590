"""A worker killed outright with jobs in flight: two still downloading, two that wrote their objects and did not name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.faults.url_watcher import UrlWatcher
from tests.support.daemon import Launch, launching, worker_environment
from tests.support.host import Host, Row, shared_database
from tests.support.jpeg import picture
from tests.support.origin import SteadyOrigin
from tests.support.waiting import Stopwatch, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tests.support.s3 import Bucket

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LEASE_SECONDS = 2
POLL_SECONDS = 0.5

# Seconds that it takes to do what is promised, on a machine that is not busy.
SLACK = 2.0

DOWNLOADING = ("downloading", "downloading-changes")
WRITTEN = ("written", "written-changes")
IN_FLIGHT = (*DOWNLOADING, *WRITTEN)


@dataclass
class Aftermath:
    """What is there when all jobs have ended."""

    crowding: float
    killed_at: datetime
    in_flight: dict[str, Row]
    jobs: dict[str, Row]
    watcher: UrlWatcher
    objects_at_death: set[str]
    objects: set[str]
    named: set[str]
    rescued: set[str]


@pytest.fixture(scope="module")
def aftermath(
    postgres: Postgres, template: str, shared_bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Aftermath]:
    files = {key: picture(seed) for seed, key in enumerate(("done", *IN_FLIGHT))}
    with (
        shared_database(postgres, template, "killed") as host,
        SteadyOrigin(files) as origin,
        UrlWatcher(host.dsn, shared_bucket) as watcher,
        launching(tmp_path_factory.mktemp("killed")) as launch,
    ):
        yield _kill(host, origin, shared_bucket, watcher, launch)


def _kill(host: Host, origin: SteadyOrigin, bucket: Bucket, watcher: UrlWatcher, launch: Launch) -> Aftermath:
    environment = worker_environment(
        host.dsn,
        origin,
        bucket,
        LEASE_SECONDS=LEASE_SECONDS,
        WORKER_POLL_INTERVAL=int(POLL_SECONDS * 1000),
        CONCURRENCY=len(IN_FLIGHT) + 1,
    )
    for key in DOWNLOADING:
        origin.hold[key] = 1
    jobs = {key: host.enqueue(key, run_after="2999-01-01") for key in ("done", *IN_FLIGHT)}

    def rows() -> dict[str, Row]:
        return {key: host.job(job) for key, job in jobs.items()}

    with psycopg.connect(host.dsn) as locks:
        # A file that a host holds locked cannot be named: its job has written its objects and waits.
        locks.execute("SELECT FROM auction_files WHERE source_key = ANY (%s) FOR UPDATE", [list(WRITTEN)])
        host.execute("UPDATE publish_jobs SET run_after = now()")
        victim = launch(environment)
        eventually(lambda: host.states() == {"processing": len(IN_FLIGHT), "completed": 1}, 30)
        # There is nothing left for the successor, so that the victim is the one that has them all.
        successor = launch(environment)
        successor.wait_for("worker_started")
        eventually(lambda: origin.holding == len(DOWNLOADING))
        eventually(lambda: len(bucket.contents()) == 2 * (1 + len(WRITTEN)))
        in_flight = rows()
        objects_at_death = bucket.contents()
        for key in (key for key in IN_FLIGHT if key.endswith("changes")):
            origin.files[key] = picture(len(origin.files) + len(key))
        victim.kill()
        killed_at = host.rows("SELECT clock_timestamp() AS now")[0]["now"]
    with Stopwatch() as watch:
        eventually(lambda: host.states() == {"completed": len(jobs)}, 20)
    return Aftermath(
        crowding=watch.crowding,
        killed_at=killed_at,
        in_flight=in_flight,
        jobs=rows(),
        watcher=watcher,
        objects_at_death=objects_at_death,
        objects=bucket.contents(),
        named=host.named_keys(),
        rescued={entry["job_id"] for entry in successor.log("job_rescued")},
    )


def test_every_job_in_flight_runs_again_within_a_lease_and_a_poll(aftermath: Aftermath) -> None:
    for key in IN_FLIGHT:
        row = aftermath.jobs[key]
        assert (row["status"], row["retry_count"]) == ("completed", 1), key
        waited = (row["started_at"] - aftermath.killed_at).total_seconds()
        assert 0 < waited <= LEASE_SECONDS + POLL_SECONDS + SLACK * aftermath.crowding, key
    assert aftermath.rescued == {str(row["id"]) for key, row in aftermath.jobs.items() if key in IN_FLIGHT}


@pytest.mark.extended
def test_nothing_is_taken_from_a_worker_that_is_alive(aftermath: Aftermath) -> None:
    """The jobs were in flight for longer than the first lease, and ran under the claim that they began with."""
    for key in IN_FLIGHT:
        row = aftermath.in_flight[key]
        assert (row["status"], row["retry_count"]) == ("processing", 0), key


def test_a_job_that_had_ended_is_not_run_again(aftermath: Aftermath) -> None:
    assert aftermath.jobs["done"] == aftermath.in_flight["done"]
    assert aftermath.jobs["done"]["retry_count"] == 0


def test_no_url_was_set_before_its_object_could_be_read(aftermath: Aftermath) -> None:
    eventually(lambda: len(aftermath.watcher.seen) == 2 * len(aftermath.jobs))
    assert aftermath.watcher.unreadable == []


def test_every_object_is_named_by_a_file(aftermath: Aftermath) -> None:
    """Also where the source changed between the attempts, so that the second wrote under other keys."""
    assert aftermath.objects == aftermath.named
    assert len(aftermath.objects_at_death - aftermath.objects) == 2
