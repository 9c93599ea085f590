"""Presence: a worker that was killed is known to be gone long before its leases run out, and nobody else is taken for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import eventually

from jobqueue.kernel import Queue
from jobqueue.kernel.database.link import Link
from jobqueue.kernel.database.statements import statement
from jobqueue.kernel.leasing import leases, rescuer
from jobqueue.kernel.leasing.leases import Leases
from jobqueue.kernel.leasing.presence import ALIVE_SECONDS, GONE_AFTER, LOCK_CLASS, is_alive, take_presence

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


def beat(rig: Rig, name: str, presence: int | None, *, seconds_ago: float = GONE_AFTER + 1) -> None:
    row = {"name": name, "version": "1", "queues": ["jobs"], "concurrency": 1, "in_flight": 0, "draining": False}
    rig.link.fetch(statement("beat_worker"), {**row, "presence": presence})
    rig.sql.execute(
        b"UPDATE jobqueue.workers SET beat_at = clock_timestamp() - make_interval(secs => %s) WHERE name = %s",
        [seconds_ago, name],
    )


def gone(rig: Rig, *, lease: float = 0.0) -> list[tuple[Any, ...]]:
    return rig.link.fetch(statement("find_gone"), {"silence": GONE_AFTER, "lock": LOCK_CLASS, "lease": lease})


def test_a_worker_that_is_silent_and_whose_connection_has_ended_is_gone(rig: Rig, other: Link) -> None:
    number = take_presence(other)
    beat(rig, "w", number)
    assert gone(rig) == []
    other.close()
    eventually(lambda: gone(rig) == [("w", number)])


def test_a_worker_is_counted_on_until_it_has_not_beaten_for_as_long() -> None:
    assert is_alive(ALIVE_SECONDS - 0.1)
    assert not is_alive(ALIVE_SECONDS)
    assert GONE_AFTER < ALIVE_SECONDS


def test_one_that_beats_is_not(rig: Rig) -> None:
    beat(rig, "w", 1, seconds_ago=GONE_AFTER - 2)
    assert gone(rig) == []


def test_one_without_presence_is_not(rig: Rig) -> None:
    beat(rig, "w", None, seconds_ago=1e6)
    assert gone(rig) == []


def test_nobody_is_gone_for_one_lease_after_a_restart_of_the_database(rig: Rig) -> None:
    beat(rig, "w", 1)
    assert gone(rig, lease=1e6) == []


def test_each_connection_takes_a_number_of_its_own(rig: Rig, other: Link) -> None:
    assert take_presence(rig.link) != take_presence(other)


def test_only_the_leases_of_those_who_are_gone_end(rig: Rig) -> None:
    first, second = rig.insert(2)
    rig.claim(1, worker="gone")
    rig.claim(1, worker="alive")
    assert rig.store().expire(rig.link, ["gone"]) == 1
    assert [job.id for job in rig.store().rescue(rig.link, 0.0)] == [first]
    assert rig.row(second)["status"] == "processing"
    assert rig.store().expire(rig.link, ["gone"]) == 0


class Blocking:
    """A handler that waits to be let go."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.go = threading.Event()

    def __call__(self, job: Job, _context: object) -> None:
        self.begun.append(job)
        self.go.wait()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is silent for a second is gone; nobody stops acting because of that."""
    monkeypatch.setattr(rescuer, "GONE_AFTER", 1.0)
    monkeypatch.setattr(rescuer, "BEAT_EVERY", 0.05)


def test_the_jobs_of_a_worker_that_is_gone_run_again_long_before_their_leases_run_out(rig: Rig, hasty: None) -> None:
    [id_] = rig.insert()
    [job] = rig.claim(worker="gone", lease=LEASE)
    beat(rig, "gone", 1)
    handler = Blocking()
    handler.go.set()
    rig.worker(Queue("jobs", handler), lease_seconds=2.0, poll_seconds=60.0)
    eventually(lambda: rig.row(id_)["status"] == "completed", 10.0)
    row = rig.row(id_)
    assert (row["retry_count"], handler.begun[0].attempt) == (1, 2)
    assert rig.store().complete(rig.link, [job]) == set()


def test_a_worker_whose_connection_is_lost_keeps_its_jobs(rig: Rig, hasty: None) -> None:
    handler = Blocking()
    [id_] = rig.insert()
    worker = rig.worker(Queue("jobs", handler), lease_seconds=2.0, poll_seconds=60.0)
    eventually(lambda: rig.rows("SELECT 1 FROM jobqueue.workers WHERE presence IS NOT NULL") and handler.begun)
    before = rig.value("SELECT presence FROM jobqueue.workers")
    for _ in range(3):
        assert rig.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'jobqueue:claim' AND datname = current_database()"
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
    monkeypatch.setattr(leases, "GONE_AFTER", 4.0)
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
