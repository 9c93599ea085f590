"""Paused queues: nobody claims from them, from the moment at which the pause is known to be complete."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import errors
from tests.support.waiting import eventually

from jobqueue.admin.queue_states import list_states, pause, resume, wait_for_claims
from jobqueue.database_session import connect
from jobqueue.kernel import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Context, Job
    from jobqueue.kernel.database.limited import Connection


def nothing(*_: Any) -> None:
    """A handler."""


@pytest.fixture
def operator(rig: Rig) -> Iterator[Connection]:
    """The connection of somebody who pauses and resumes."""
    with connect(rig.dsn, "cli") as connection:
        yield connection


def test_nobody_claims_from_a_paused_queue_and_others_go_on(rig: Rig, operator: Connection) -> None:
    rig.table("work")
    rig.insert(3)
    rig.insert(3, "work", id="=generate_series")
    assert pause(operator, "jobs")
    assert not pause(operator, "jobs")
    assert wait_for_claims(operator, 1.0)
    engine = rig.engine(Queue("jobs", nothing), Queue("work", nothing), size=8)
    assert [job.queue for job in engine.turn(5)] == ["work"] * 3
    assert engine.claimer.idle
    assert engine.claimer.paused == ["jobs"]
    assert engine.metrics.queue_paused.labels("jobs")._value.get() == 1.0
    assert engine.metrics.queue_paused.labels("work")._value.get() == 0.0
    assert resume(operator, "jobs")
    assert not resume(operator, "jobs")
    engine.claimer.notify("jobs")
    assert [job.queue for job in engine.turn(2)] == ["jobs"] * 3
    assert eventually(lambda: engine.turn() == [] and engine.claimer.paused == [])


def test_a_suspect_waits_too_and_holds_nobody_up(rig: Rig, operator: Connection) -> None:
    rig.table("work")
    [suspect] = rig.insert(1, crash_count=2)
    rig.insert(2, "work", id="=generate_series")
    pause(operator, "jobs")
    engine = rig.engine(Queue("jobs", nothing), Queue("work", nothing))
    assert [job.queue for job in engine.turn(5)] == ["work"] * 2
    assert not rig.claim()
    resume(operator, "jobs")
    engine.end_all()
    engine.claimer.notify(None)
    assert [job.id for job in engine.turn(3)] == [suspect]


def test_a_pause_waits_for_the_claims_that_began_before_it(rig: Rig, operator: Connection) -> None:
    rig.insert(2)
    claim = rig.store()._sql("claim_jobs", 1)
    params = {"priorities": [5], "floors": [0], "token": None, "worker": "w", "lease": 60.0}
    with rig.connect(autocommit=False) as other:
        assert len(other.execute(claim, params).fetchall()) == 1
        pause(operator, "jobs")
        assert not wait_for_claims(operator, 0.1)
        other.commit()
        assert wait_for_claims(operator, 5.0)
        assert other.execute(claim, params).fetchall() == []


def test_nothing_begins_once_a_pause_is_complete(rig: Rig, operator: Connection) -> None:
    """Over and over, against workers that claim as fast as they can."""
    workers = [rig.worker(Queue("jobs", nothing)) for _ in range(2)]
    for _ in range(10):
        rig.insert(600)
        eventually(lambda: rig.value("SELECT count(*) FROM jobs WHERE status = 'completed'") > 50)
        pause(operator, "jobs")
        assert wait_for_claims(operator, 10.0)
        paused_at = rig.value("SELECT clock_timestamp()")
        rig.insert(10)
        eventually(lambda: rig.value("SELECT count(*) FROM jobs WHERE status = 'processing'") == 0)
        eventually(lambda: all(worker.paused == ["jobs"] for worker in workers))
        assert rig.value("SELECT max(started_at) FROM jobs") < paused_at
        resume(operator, "jobs")
        eventually(lambda: rig.states() == {"completed": rig.value("SELECT count(*) FROM jobs")})
        rig.rows("DELETE FROM jobs")


def test_jobs_in_work_end_as_they_would_have(rig: Rig, operator: Connection) -> None:
    begun, end = threading.Event(), threading.Event()

    def handler(_job: Job, _context: Context) -> None:
        begun.set()
        end.wait(10.0)

    worker = rig.worker(Queue("jobs", handler))
    rig.insert(1)
    assert begun.wait(10.0)
    pause(operator, "jobs")
    assert wait_for_claims(operator, 5.0)
    end.set()
    eventually(lambda: rig.states() == {"completed": 1})
    assert worker.stuck() is None


def test_a_run_that_drains_leaves_a_paused_queue_alone(rig: Rig, operator: Connection) -> None:
    rig.insert(3)
    pause(operator, "jobs")
    rig.run_once(nothing)
    assert rig.states() == {"pending": 3}


def test_only_a_queue_can_be_paused(operator: Connection) -> None:
    with pytest.raises(errors.ForeignKeyViolation):
        pause(operator, "none")
    assert all(state.paused_at is None for state in list_states(operator))
