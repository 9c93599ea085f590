"""The rescuer: jobs of lost workers run again, and a job that loses its workers by itself comes to an end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.kernel.helpers import Rig
from tests.support.servers import make_server
from tests.support.waiting import eventually

from jobqueue.kernel import Chore, Queue
from jobqueue.kernel.database.rows import LaneFloors
from jobqueue.kernel.leasing.presence import LOCK_CLASS
from jobqueue.kernel.leasing.rescuer import Rescuer
from jobqueue.kernel.meter import Meter
from jobqueue.migrations import migrate
from jobqueue.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobqueue.demo.embedded_postgres import Postgres
    from jobqueue.kernel import Job
    from jobqueue.kernel.database.link import Link

LEASE = 0.3


def expire(rig: Rig) -> None:
    """Let every lease run out."""
    rig.sql.execute(b"UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE status = 'processing'")


def crash(rig: Rig) -> None:
    """Claim what is due, lose the worker, and be rescued."""
    assert rig.claim(worker="gone:1") or rig.store().claim_suspect(rig.link, uuid4(), "gone:1", 60.0)
    expire(rig)
    assert rig.store().rescue(rig.link, LEASE)


def test_a_lost_job_is_due_again_and_charged_with_an_attempt(rig: Rig) -> None:
    [id_] = rig.insert()
    [job] = rig.claim(worker="gone:1")
    expire(rig)
    [rescued] = rig.store().rescue(rig.link, LEASE)
    assert (rescued.id, rescued.locked_by, rescued.failed) == (id_, "gone:1", False)
    row = rig.row(id_)
    assert (row["status"], row["retry_count"], row["crash_count"]) == ("pending", 1, 1)
    assert "the worker gone:1 died or was cut off while it ran this job (attempt 1 of 5)" in row["error_message"]
    assert rig.store().complete(rig.link, [job]) == set()
    [again] = rig.claim()
    assert (again.attempt, again.crash_count) == (2, 1)


def test_a_lease_that_has_not_run_out_is_left_alone(rig: Rig) -> None:
    rig.insert()
    rig.claim(lease=60)
    assert rig.store().rescue(rig.link, LEASE) == []


def test_a_row_that_somebody_has_locked_is_left_for_the_next_time(rig: Rig) -> None:
    first, second = rig.insert(2)
    rig.claim()
    expire(rig)
    host = rig.connect(autocommit=False)
    host.execute(b"SELECT FROM jobs WHERE id = %s FOR UPDATE", [first])
    assert [job.id for job in rig.store().rescue(rig.link, LEASE)] == [second]
    host.rollback()
    assert [job.id for job in rig.store().rescue(rig.link, LEASE)] == [first]


def test_a_job_that_loses_its_worker_each_time_ends_failed_and_says_so(rig: Rig) -> None:
    [id_] = rig.insert(1, max_retries=3)
    for _ in range(3):
        crash(rig)
    row = rig.row(id_)
    assert (row["status"], row["retry_count"], row["crash_count"]) == ("failed", 3, 3)
    assert "it happened 3 times in a row, so the job itself may kill its worker" in row["error_message"]
    assert row["completed_at"] is not None
    assert rig.claim() == []


@pytest.mark.parametrize(("max_retries", "crashes"), [(5, 2), (3, 2), (2, 1)])
def test_it_is_a_suspect_after_two_crashes_or_before_its_last_attempt(rig: Rig, max_retries: int, crashes: int) -> None:
    rig.insert(1, max_retries=max_retries)
    for _ in range(crashes):
        assert rig.value("SELECT position IS NOT NULL FROM jobs")
        crash(rig)
    assert rig.claim() == []
    assert rig.value("SELECT position IS NULL FROM jobs")
    [suspect] = rig.store().claim_suspect(rig.link, uuid4(), "w", 60.0)
    assert suspect.crash_count == crashes


@pytest.mark.parametrize("how", ["completed", "failed attempt"])
def test_an_attempt_that_ends_by_itself_clears_the_suspicion(rig: Rig, how: str) -> None:
    [id_] = rig.insert()
    crash(rig)
    [job] = rig.claim()
    if how == "completed":
        rig.store().complete(rig.link, [job])
    else:
        rig.store().retry(rig.link, [job], [0.0], ["x"])
    assert rig.row(id_)["crash_count"] == 0


def test_a_suspect_that_the_operator_gives_more_attempts_is_still_a_suspect(rig: Rig) -> None:
    rig.insert(1, max_retries=3)
    for _ in range(3):
        crash(rig)
    rig.sql.execute(b"UPDATE jobs SET max_retries = 10")
    assert rig.value("SELECT status FROM jobs") == "pending"
    ran: list[Job] = []
    rig.run_once(lambda job, _: ran.append(job))
    assert [job.attempt for job in ran] == [4]


def test_rows_in_progress_without_a_lease_get_one_and_then_run_again_uncharged(rig: Rig) -> None:
    [id_] = rig.insert(1, status="processing", retry_count=5)
    store = rig.store()
    assert store.rescue(rig.link, LEASE) == []
    assert store.lease_orphans(rig.link, LEASE) == 1
    assert store.lease_orphans(rig.link, LEASE) == 0
    assert store.rescue(rig.link, LEASE) == []
    expire(rig)
    assert [job.failed for job in store.rescue(rig.link, LEASE)] == [False]
    row = rig.row(id_)
    assert (row["status"], row["retry_count"], row["crash_count"]) == ("pending", 5, 0)
    assert "without a lease" in row["error_message"]
    [job] = rig.claim()
    assert job.attempt == 6


def test_a_worker_rescues_what_another_left_within_a_lease_and_a_poll(rig: Rig) -> None:
    rig.insert(3)
    rig.claim(lease=LEASE, worker="gone:1")
    rig.insert(2, status="processing")
    rig.worker(Queue("jobs", lambda *_: None), lease_seconds=LEASE, poll_seconds=0.2)
    eventually(lambda: rig.states() == {"completed": 5}, 5.0)
    assert rig.rows("SELECT retry_count, count(*) FROM jobs GROUP BY 1 ORDER BY 1") == [(0, 2), (1, 3)]


def test_more_lost_jobs_than_one_statement_takes_are_all_rescued(rig: Rig) -> None:
    rig.insert(1_200)
    rig.claim(1_200)
    expire(rig)
    store, sizes = rig.store(), list[int]()
    while rescued := store.rescue(rig.link, LEASE):
        sizes.append(len(rescued))
    assert sizes == [500, 500, 200]
    assert rig.states() == {"pending": 1_200}


def test_suspects_run_alone_and_their_neighbours_complete(rig: Rig) -> None:
    bad = rig.insert(2, crash_count=2, retry_count=2, kind="bad")
    rig.insert(30)
    running, together, guard = set[int](), list[tuple[int, int]](), threading.Lock()

    def handler(job: Job, _: Any) -> None:
        with guard:
            running.add(job.id)
            together.extend((job.id, other) for other in running if job.id != other)
        if job.id in bad:
            # Give a neighbour every chance to begin beside it.
            threading.Event().wait(0.1)
        with guard:
            running.discard(job.id)

    rig.run_once(handler, poll_seconds=0.1)
    assert rig.states() == {"completed": 32}
    assert not [pair for pair in together if set(pair) & set(bad)]


def test_chores_are_done_at_their_intervals_and_a_failing_one_stops_nothing(rig: Rig) -> None:
    done: list[str] = []

    def fails(_: Link) -> None:
        done.append("fails")
        raise ValueError("a chore")

    def counts(link: Link) -> None:
        assert link.fetch(b"SELECT 1") == [(1,)]
        done.append("counts")

    chores = (Chore("fails", 0.05, fails), Chore("counts", 0.05, counts))
    rig.insert()
    rig.claim(lease=LEASE)
    rig.worker(Queue("jobs", lambda *_: None, chores=chores), lease_seconds=LEASE, poll_seconds=0.1)
    eventually(lambda: done.count("counts") >= 3 and done.count("fails") >= 2)
    eventually(lambda: rig.states() == {"completed": 1})


def test_the_queue_is_measured(rig: Rig) -> None:
    rig.insert(3, run_after="=now() - interval '100 s'")
    rig.insert(2, run_after="=now() + interval '1 hour'")
    rig.insert(1, status="failed")
    rig.insert(4, status="completed")
    store = rig.store()
    depth = store.measure(rig.link, LaneFloors([5], [0]))
    assert (depth.due, depth.delayed, depth.processing, depth.failed) == (3, 2, 0, 1)
    assert 100 <= depth.oldest_due < 110


@pytest.fixture
def restarted(server_folder: Path) -> Iterator[Postgres]:
    """A server of the test's own: it is stopped and started."""
    with make_server(server_folder / "restarted", careless=False) as server:
        migrate(server.dsn)
        yield server


@pytest.mark.slow
@pytest.mark.faults
def test_after_a_restart_of_the_server_holders_get_one_lease_to_come_back(restarted: Postgres) -> None:
    with Rig(restarted.dsn) as rig:
        rig.insert()
        rig.claim(lease=0.05)
    restarted.restart()
    with Rig(restarted.dsn) as rig:
        assert rig.value("SELECT lease_expires_at < now() FROM jobs")
        store = rig.store()
        assert store.rescue(rig.link, 3_600.0) == []
        assert store.rescue(rig.link, 3_600.0) == []
        eventually(lambda: store.rescue(rig.link, 0.05))


def test_a_job_that_a_host_completed_by_hand_and_set_in_progress_again_is_not_its_old_holders(rig: Rig) -> None:
    [id_] = rig.insert()
    [job] = rig.claim()
    store = rig.store()
    store.complete(rig.link, [job])
    rig.sql.execute(b"UPDATE jobs SET status = 'processing'")
    assert store.lease_orphans(rig.link, 60.0) == 1
    assert store.renew(rig.link, [job], 60.0) == {}
    assert store.fail(rig.link, [job], ["late"]) == set()
    assert rig.row(id_)["status"] == "processing"


def test_after_an_absence_of_the_database_holders_get_one_lease_to_come_back(rig: Rig) -> None:
    """A standby that takes over was started long ago: nothing on it says for how long there was nobody to renew a lease with."""
    rescuer = Rescuer(
        rig.link, Meter(Metrics(), []), [], lease_seconds=60.0, poll_seconds=1.0,
        notify=lambda _: None, lanes=lambda _: LaneFloors([], []), current=lambda: True,
    )  # fmt: skip
    began = rescuer._present_at
    assert [rescuer._must_wait(began + seconds) for seconds in (15.0, 44.0)] == [False, False]
    looks = [(75.0, True), (100.0, True), (130.0, True), (136.0, False), (150.0, False)]
    assert [(at, rescuer._must_wait(began + at)) for at, _ in looks] == looks
    # Again away, for longer than a lease, while they still have time.
    assert [rescuer._must_wait(began + seconds) for seconds in (185.0, 250.0, 305.0, 311.0)] == [
        True,
        True,
        True,
        False,
    ]


def test_where_each_look_comes_late_there_is_one_a_lease(rig: Rig) -> None:
    rescuer = Rescuer(
        rig.link, Meter(Metrics(), []), [], lease_seconds=2.0, poll_seconds=1.0,
        notify=lambda _: None, lanes=lambda _: LaneFloors([], []), current=lambda: True,
    )  # fmt: skip
    began = rescuer._present_at
    assert [rescuer._must_wait(began + 1.5 * look) for look in range(1, 7)] == [True, True, False, True, True, False]


@pytest.mark.parametrize("other", ["time", "server"])
def test_a_witness_that_was_interrupted_has_seen_nothing(rig: Rig, other: str) -> None:
    """A frozen server cuts the others off as well; and a pooler may lead to another server, where no lock is held yet."""
    rescuer = Rescuer(
        rig.link, Meter(Metrics(), []), [], lease_seconds=60.0, poll_seconds=1.0,
        notify=lambda _: None, lanes=lambda _: LaneFloors([], []), current=lambda: True,
    )  # fmt: skip
    rig.sql.execute(b"SELECT pg_advisory_lock(%s, 7)", [LOCK_CLASS])
    rig.sql.execute(
        b"INSERT INTO jobqueue.workers (name, version, queues, concurrency, in_flight, draining, presence) VALUES ('w', '1', '{}', 1, 0, false, 7)"
    )
    rescuer._watch_workers()
    rig.sql.execute(b"SELECT pg_advisory_unlock(%s, 7)", [LOCK_CLASS])
    assert rescuer._witness._held
    if other == "time":
        rescuer._watched_at -= 10.0
    else:
        assert rescuer._server is not None
        rescuer._server -= 1.0
    rescuer._watch_workers()
    assert not rescuer._witness._held
