"""Handlers that take longer than their queue's timeout, and those that never come back."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import eventually

from jobqueue.backoff import Backoff
from jobqueue.errors import LeaseLost, TimedOut
from jobqueue.kernel import Queue
from jobqueue.kernel.running.overtime import Overtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.held_job import Held
    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Context, Handler, Job

# Long enough that no second attempt is made while a test looks.
LATER = Backoff(first=600.0)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What stuck handlers wait for; it opens at the end."""
    opened = threading.Event()
    yield opened
    opened.set()


def until_it_raises(_job: Job, context: Context) -> None:
    while True:
        context.checkpoint()
        threading.Event().wait(0.01)


def waiting_for(gate: threading.Event) -> Handler:
    def handler(_job: Job, _context: Context) -> None:
        gate.wait(60.0)

    return handler


@pytest.mark.parametrize(("on_timeout", "status", "retry_count"), [("retry", "pending", 1), ("permanent", "failed", 5)])
def test_a_checkpoint_ends_a_handler_whose_time_is_over(
    rig: Rig, on_timeout: Any, status: str, retry_count: int
) -> None:
    [id_] = rig.insert(1)
    rig.worker(Queue("jobs", until_it_raises, timeout=0.05, on_timeout=on_timeout, backoff=LATER))
    eventually(lambda: rig.row(id_)["error_message"])
    row = rig.row(id_)
    assert (row["status"], row["retry_count"]) == (status, retry_count)
    assert row["error_message"] == "the handler took longer than the queue's timeout"


def test_a_handler_that_comes_back_late_has_done_its_work(rig: Rig) -> None:
    rig.insert(1)

    def late(_job: Job, _context: Context) -> None:
        threading.Event().wait(0.1)

    rig.run_once(late, timeout=0.01)
    assert rig.states() == {"completed": 1}


def test_a_handler_that_does_not_come_back_is_given_up_and_can_change_nothing(
    rig: Rig, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    rig.sql.execute(b"CREATE TABLE effects (n int)")
    ends: list[BaseException] = []

    def effect(cursor: Any) -> None:
        cursor.execute("INSERT INTO effects VALUES (1)")

    def stuck(job: Job, context: Context) -> None:
        if job.attempt > 1:
            return
        gate.wait(30.0)
        for attempt in (context.checkpoint, lambda: context.commit(effect)):
            try:
                attempt()
            except LeaseLost as error:
                ends.append(error)

    [id_] = rig.insert(1)
    worker = rig.worker(Queue("jobs", stuck, timeout=0.05, backoff=LATER), concurrency=1)
    eventually(lambda: rig.row(id_)["retry_count"] == 1)
    row = rig.row(id_)
    assert row["status"] == "pending"
    assert "had not come back after" in row["error_message"]
    [(outcome, error)] = rig.rows("SELECT outcome, error FROM jobqueue.attempts")
    assert outcome == "retried"
    assert error == row["error_message"]
    [line] = [record for record in caplog.records if record.message == "handler_stuck"]
    assert "threading.py" in line.fields["at"]  # type: ignore[attr-defined]
    assert eventually(lambda: worker.stuck_handlers == {"jobs": 1})
    assert worker.metrics.handlers_given_up.labels("jobs")._value.get() == 1.0
    eventually(lambda: worker.metrics.handlers_stuck.labels("jobs")._value.get() == 1.0)
    assert worker.stuck() is None
    # Its only slot is another thread's.
    rig.rows("UPDATE jobs SET run_after = now()")
    eventually(lambda: rig.states() == {"completed": 1})
    gate.set()
    eventually(lambda: not worker.stuck_handlers)
    assert len(ends) == 2
    assert rig.rows("SELECT * FROM effects") == []
    assert rig.states() == {"completed": 1}
    eventually(lambda: worker.idle)
    assert worker.metrics.jobs_in_flight.labels("jobs")._value.get() in (0.0, 1.0)


@pytest.mark.extended
def test_a_process_with_too_many_of_them_asks_to_be_replaced(rig: Rig, gate: threading.Event) -> None:
    rig.insert(8)
    worker = rig.worker(Queue("jobs", waiting_for(gate), timeout=0.05, backoff=LATER), concurrency=2)
    reason = eventually(worker.stuck, 30.0)
    assert reason == "8 handlers have not come back after their timeout: a process is replaced at 8"
    eventually(lambda: rig.value("SELECT count(*) FROM jobs WHERE retry_count = 1") == 8)
    gate.set()
    eventually(lambda: worker.stuck() is None)
    assert worker.drain(5.0)


def test_a_drain_does_not_wait_for_a_thread_that_was_given_up(rig: Rig, gate: threading.Event) -> None:
    rig.insert(1)
    worker = rig.worker(Queue("jobs", waiting_for(gate), timeout=0.05, backoff=LATER))
    eventually(lambda: worker.stuck_handlers)
    assert worker.drain(5.0)


def test_time_without_the_database_is_not_the_handlers(held: Held) -> None:
    """A checkpoint that waits for an answer about the lease puts the end off by as much."""
    job, fresh = held.job, held.job.renewed_at
    job.until = until = time.monotonic() + 600.0
    job.renewed_at -= 1e6
    threading.Timer(0.1, lambda: setattr(job, "renewed_at", fresh)).start()
    held.context.checkpoint()
    assert job.until - until == pytest.approx(held.context.without_database)
    assert held.context.without_database >= 0.1
    job.until = time.monotonic()
    with pytest.raises(TimedOut):
        held.context.checkpoint()


def test_a_handler_that_waits_for_the_database_is_not_given_up(held: Held) -> None:
    overtime = Overtime([Queue("jobs", until_it_raises, timeout=1.0)], held._leases)
    overtime.begin(held.job)
    later = time.monotonic() + 60.0
    held.job.renewed_at -= 1e6
    assert overtime.overdue(later) == []
    held.job.renewed_at += 1e6
    assert [overdue.job for overdue in overtime.overdue(later)] == [held.job]
    assert overtime.overdue(later) == []
    assert overtime.stuck() == {"jobs": 1}
    assert not overtime.end(held.job)
    assert overtime.stuck() == {"jobs": 0}
