"""What there is capacity for: slots, limits of queues, halves of a backlog, and outcomes that wait to be recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jobqueue.kernel import Queue

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig


def nothing(*_: Any) -> None:
    """A handler; the engine does not call it."""


JOBS = Queue("jobs", nothing)


def test_no_more_is_claimed_than_there_are_free_slots(rig: Rig) -> None:
    rig.insert(10)
    engine = rig.engine(JOBS, size=3)
    assert len(engine.turn(5)) == 3
    assert rig.states() == {"processing": 3, "pending": 7}
    engine.end(engine.begun[0])
    assert len(engine.turn(5)) == 1


def test_a_queues_own_limit_holds_and_leaves_the_other_slots_to_others(rig: Rig) -> None:
    rig.table("work")
    rig.insert(20, "work", id="=generate_series")
    rig.insert(20)
    engine = rig.engine(Queue("work", nothing, limit=1), Queue("jobs", nothing, limit=2), size=5)
    begun = engine.turn(6)
    assert sorted(job.queue for job in begun) == ["jobs", "jobs", "work"]


def test_a_queue_that_is_at_its_limit_does_not_keep_the_claimer_busy(rig: Rig) -> None:
    rig.insert(20)
    engine = rig.engine(Queue("jobs", nothing, limit=1), size=5)
    engine.turn(3)
    assert engine.claimer.turn() > 1.0


@pytest.mark.parametrize(("size", "next_claim"), [(25, 25), (250, 125)])
def test_a_backlog_is_claimed_by_halves_where_half_is_worth_a_statement(rig: Rig, size: int, next_claim: int) -> None:
    rig.insert(3 * size)
    engine = rig.engine(JOBS, size=size)
    assert len(engine.turn(2)) == size
    engine.end_all()
    assert len(engine.turn()) == next_claim


def test_outcomes_that_cannot_be_recorded_stop_the_claimer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobqueue.kernel.claiming.capacity.MOST_UNRECORDED", 1)
    rig.insert(8)
    engine = rig.engine(JOBS, size=2)
    engine.turn(2)
    for job in list(engine.begun):
        engine.end(job)
    assert engine.turn(3) == []
    assert not engine.claimer._wake.is_set()
    engine.completer.turn()
    # Nobody else would wake it: there is no job left that could free a slot.
    assert engine.claimer._wake.is_set()
    assert len(engine.turn(3)) == 2
