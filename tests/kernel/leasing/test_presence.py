"""Presence: a worker that was killed is known to be gone long before its leases run out, and nobody else is taken for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import eventually

from jobqueue.kernel import Queue
from jobqueue.kernel.database.link import Link
from jobqueue.kernel.database.rows import GoneWorker, WorkerPresence
from jobqueue.kernel.database.statements import statement
from jobqueue.kernel.leasing import leases
from jobqueue.kernel.leasing.leases import Leases
from jobqueue.kernel.leasing.presence import (
    FENCED_AFTER,
    LOCK_CLASS,
    take_lock,
    take_presence,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Job

LEASE = 3600.0


@pytest.fixture
def other(rig: Rig) -> Iterator[Link]:
    """Another process' connection."""
    link = Link(rig.dsn, "other")
    yield link
    link.close()


def beat(
    rig: Rig, name: str, presence: int | None, *, fence: float | None = FENCED_AFTER, silent: float = 60.0
) -> None:
    row = {"name": name, "version": "1", "queues": ["jobs"], "concurrency": 1, "in_flight": 0, "draining": False}
    rig.link.fetch(statement("beat_worker"), {**row, "presence": presence, "fenced_after": fence})
    rig.sql.execute(
        b"UPDATE jobqueue.workers SET beat_at = clock_timestamp() - make_interval(secs => %s) WHERE name = %s",
        [silent, name],
    )


def look(rig: Rig) -> list[WorkerPresence]:
    return [WorkerPresence(*row) for row in rig.link.fetch(statement("watch_workers"), {"lock": LOCK_CLASS})]


def test_a_presence_is_held_for_as_long_as_its_connection_lives(rig: Rig, other: Link) -> None:
    number = take_presence(other)
    beat(rig, "w", number)
    [seen] = look(rig)
    assert (seen.name, seen.presence, seen.fenced_after, seen.held) == ("w", number, FENCED_AFTER, True)
    assert 59 < seen.silent < 120
    other.close()
    eventually(lambda: not look(rig)[0].held)


def test_locks_of_others_are_nobodys_presence(rig: Rig, other: Link) -> None:
    beat(rig, "w", 7)
    other.fetch(b"SELECT pg_advisory_lock(7), pg_advisory_lock(1, 7)")
    assert not look(rig)[0].held
    assert take_lock(other, 7)
    assert look(rig)[0].held


def test_one_without_presence_is_not_looked_at(rig: Rig) -> None:
    beat(rig, "w", None)
    assert look(rig) == []


def test_each_connection_takes_a_number_of_its_own(rig: Rig, other: Link) -> None:
    assert take_presence(rig.link) != take_presence(other)


def test_only_the_leases_of_those_who_are_gone_end(rig: Rig) -> None:
    first, second = rig.insert(2)
    rig.claim(1, worker="gone")
    rig.claim(1, worker="alive")
    beat(rig, "gone", 1)
    beat(rig, "alive", 2)
    gone = [GoneWorker("gone", 1)]
    assert rig.store().expire(rig.link, gone) == 1
    assert [job.id for job in rig.store().rescue(rig.link, 0.0)] == [first]
    assert rig.row(second)["status"] == "processing"
    assert rig.store().expire(rig.link, gone) == 0


def test_one_that_has_come_back_keeps_its_leases(rig: Rig) -> None:
    rig.insert()
    rig.claim(worker="back")
    beat(rig, "back", 2)
    assert rig.store().expire(rig.link, [GoneWorker("back", 1)]) == 0


def test_one_that_is_gone_does_not_come_back_after_a_restart(rig: Rig) -> None:
    rig.insert(2)
    rig.claim(1, worker="gone")
    rig.claim(1, worker="away")
    rig.sql.execute(b"UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
    # The server has been started within so long a lease.
    assert rig.store().rescue(rig.link, 1e6) == []
    assert [job.locked_by for job in rig.store().rescue(rig.link, 1e6, None, ["gone"])] == ["gone"]


class Blocking:
    """A handler that waits to be let go."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.go = threading.Event()

    def __call__(self, job: Job, _context: object) -> None:
        self.begun.append(job)
        self.go.wait()


def test_the_jobs_of_a_worker_that_is_gone_run_again_long_before_their_leases_run_out(rig: Rig, other: Link) -> None:
    [id_] = rig.insert()
    [job] = rig.claim(worker="gone", lease=LEASE)
    beat(rig, "gone", take_presence(other))
    handler = Blocking()
    handler.go.set()
    rig.worker(Queue("jobs", handler), lease_seconds=LEASE, poll_seconds=60.0)
    looked = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'jobqueue:rescue' AND datname = current_database()"
        " AND query LIKE %s AND state = 'idle'"
    )
    eventually(lambda: rig.rows(looked, "%-- The presence of every worker%"))
    # A look later the witness has seen the lock held, if the last had not.
    since = rig.value("SELECT clock_timestamp()")
    eventually(lambda: rig.rows(looked + " AND query_start > %s", "%-- The presence of every worker%", since))
    other.close()
    eventually(lambda: rig.row(id_)["status"] == "completed", 10.0)
    row = rig.row(id_)
    assert (row["retry_count"], handler.begun[0].attempt) == (1, 2)
    assert rig.store().complete(rig.link, [job]) == set()


def test_a_worker_whose_connection_is_lost_keeps_its_jobs(rig: Rig) -> None:
    handler = Blocking()
    [id_] = rig.insert()
    worker = rig.worker(Queue("jobs", handler), lease_seconds=20.0, poll_seconds=60.0)
    eventually(lambda: rig.rows("SELECT 1 FROM jobqueue.workers WHERE presence IS NOT NULL") and handler.begun)
    before = rig.value("SELECT presence FROM jobqueue.workers")
    for _ in range(3):
        assert rig.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'jobqueue:heartbeat' AND datname = current_database()"
        )
        eventually(lambda: rig.value("SELECT presence FROM jobqueue.workers") != before, 10.0)  # noqa: B023
        before = rig.value("SELECT presence FROM jobqueue.workers")
    assert rig.row(id_)["locked_by"] == worker.name
    handler.go.set()
    eventually(lambda: rig.row(id_)["status"] == "completed")
    assert rig.row(id_)["retry_count"] == 0


def test_two_lives_of_one_process_id_have_two_names(rig: Rig) -> None:
    assert rig.unstarted().name != rig.unstarted().name


def test_a_holder_that_may_be_taken_for_gone_does_not_act(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "FENCED_AFTER", 3.0)
    rig.insert()
    [job] = rig.claim()
    held = Leases(60.0)
    held.hold([job])
    now = job.renewed_at
    assert held.is_fresh(job)
    held.seen(now - 4.0, present=True)
    assert not held.is_fresh(job)
    held.seen(now, present=True)
    assert held.is_fresh(job)
    held.seen(now - 4.0, present=False)
    assert held.is_fresh(job)
