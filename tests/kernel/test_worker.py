"""The worker as a whole: wakes up, drains in order, and outlives every connection it has."""

from __future__ import annotations

import threading
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import Stopwatch, eventually

from jobqueue.errors import Retry
from jobqueue.kernel import Queue
from jobqueue.kernel.database.store import UnknownQueue
from jobqueue.moments import LONG_AGO, NEVER

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Context, Job, Worker
    from jobqueue.kernel.loop import Loop


def nothing(*_: Any) -> None:
    """A handler that succeeds."""


class Blocking:
    """A handler that runs until it is let go; it looks at its checkpoint meanwhile when `attentive`."""

    def __init__(self, *, attentive: bool = False) -> None:
        self.attentive = attentive
        self.begun: list[int] = []
        self.go = threading.Event()

    def __call__(self, job: Job, context: Context) -> None:
        self.begun.append(job.id)
        while not self.go.wait(0.01):
            if self.attentive:
                context.checkpoint()


def connected(rig: Rig, part: str) -> list[int]:
    """The server processes of one part of the worker."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    return [row[0] for row in rig.rows(query, f"jobqueue:{part}")]


def prepares(loop: Loop) -> bool:
    """Whether anything is prepared on the loop's connection: looked up here, because the connection is the loop's to use."""
    return loop.link._prepared is not None or bool(loop.link.connection()._prepared._names)


def settle(rig: Rig, worker: Worker) -> None:
    """Wait until the worker has looked around, listens, and has nothing to do."""
    eventually(lambda: worker.idle and worker.metrics.registry.get_sample_value("jobqueue_listener_up") == 1)


def test_run_once_works_off_what_is_due_and_what_becomes_due_by_that(rig: Rig) -> None:
    rig.insert(200)
    rig.insert(3, run_after="=now() + interval '1 hour'")
    tries: list[int] = []

    def handler(job: Job, _: Any) -> None:
        if job.id <= 5 and job.attempt < 3:
            tries.append(job.id)
            raise Retry("again", after=0)

    assert rig.run_once(handler).draining
    assert rig.states() == {"completed": 200, "pending": 3}
    assert sorted(tries) == sorted([1, 2, 3, 4, 5] * 2)


def test_run_once_gives_up_at_its_timeout(rig: Rig) -> None:
    rig.insert()
    handler = Blocking(attentive=True)
    worker = rig.unstarted(Queue("jobs", handler))
    threading.Timer(0.5, worker.hurry).start()
    with pytest.raises(TimeoutError):
        worker.run_once(0.1)
    assert rig.states() == {"pending": 1}


def test_a_queue_that_nobody_adopted_is_an_error_that_says_what_to_do(rig: Rig) -> None:
    with pytest.raises(UnknownQueue, match=r"no queue 'typo'.*jobqueue\.adopt"):
        rig.unstarted(Queue("typo", nothing)).start()


def test_an_idle_worker_is_woken_by_an_insert(rig: Rig) -> None:
    worker = rig.worker(Queue("jobs", nothing), poll_seconds=600.0)
    settle(rig, worker)
    for _ in range(5):
        [id_] = rig.insert()
        eventually(lambda: rig.row(id_)["status"] == "completed", 5.0)  # noqa: B023


def test_without_notifications_polling_finds_the_jobs(rig: Rig) -> None:
    worker = rig.worker(
        Queue("jobs", nothing),
        poll_seconds=0.2,
        direct_conninfo="host=127.0.0.1 port=1 user=x password=x connect_timeout=1",
    )
    rig.insert(3)
    eventually(lambda: rig.states() == {"completed": 3})
    assert worker.metrics.registry.get_sample_value("jobqueue_listener_up") == 0
    assert worker.stuck() is None


@pytest.mark.extended
def test_behind_a_transaction_pooler_nothing_is_prepared(rig: Rig) -> None:
    worker = rig.worker(Queue("jobs", nothing), pooled=True)
    for _ in range(10):
        rig.insert()
        eventually(lambda: set(rig.states()) == {"completed"})
    for loop in worker._loops:
        assert not prepares(loop), loop.name


def test_a_drain_lets_jobs_finish_and_claims_nothing_more(rig: Rig) -> None:
    handler = Blocking()
    rig.insert(10)
    worker = rig.worker(Queue("jobs", handler), concurrency=3)
    eventually(lambda: len(handler.begun) == 3)
    ended: list[bool] = []
    drain = threading.Thread(target=lambda: ended.append(worker.drain(10.0)))
    drain.start()
    eventually(worker._claimer._closed.is_set)
    # The heartbeat shows the drain to people and goes on while a job runs.
    worker._heartbeat.beat()
    eventually(lambda: rig.rows("SELECT draining, in_flight FROM jobqueue.workers") == [(True, 3)])
    handler.go.set()
    drain.join(10.0)
    assert ended == [True]
    assert rig.states() == {"completed": 3, "pending": 7}
    assert not rig.rows("SELECT 1 FROM jobqueue.workers")
    for part in ("claim", "complete", "heartbeat", "rescue", "handler"):
        eventually(lambda: not connected(rig, part))  # noqa: B023


@pytest.mark.parametrize("attentive", [True, False])
def test_a_job_that_does_not_finish_in_the_drain_goes_back_at_once_and_uncharged(
    rig: Rig, attentive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobqueue.kernel.worker._NOTICE", 0.3)
    [id_] = rig.insert()
    handler = Blocking(attentive=attentive)
    worker = rig.worker(Queue("jobs", handler))
    eventually(lambda: handler.begun)
    with Stopwatch() as idle:
        worker.drain(0.1)
    assert idle.seconds < 4.0
    row = rig.row(id_)
    assert (row["status"], row["retry_count"], row["crash_count"]) == ("pending", 0, 0)
    assert rig.value("SELECT position IS NOT NULL FROM jobs")
    # What the thread does from now on is not recorded.
    handler.go.set()
    rig.run_once(nothing)
    assert rig.states() == {"completed": 1}


def test_hurry_ends_a_drain(rig: Rig) -> None:
    rig.insert()
    handler = Blocking(attentive=True)
    worker = rig.worker(Queue("jobs", handler))
    eventually(lambda: handler.begun)
    drain = threading.Thread(target=worker.drain, args=(600.0,))
    drain.start()
    worker.hurry()
    drain.join(10.0)
    assert not drain.is_alive()
    assert rig.states() == {"pending": 1}


def test_what_was_claimed_and_has_not_begun_is_given_back(rig: Rig) -> None:
    rig.insert(3)
    worker = rig.worker(Queue("jobs", Blocking(attentive=True)), concurrency=2)
    eventually(lambda: worker._pool.in_flight == 2)
    jobs = rig.claim()
    worker._leases.hold(jobs)
    with worker._pool._lock:
        worker._pool._waiting.extend(jobs)  # as between the claim's answer and a thread's waking up
    worker.hurry()
    worker.drain(0.0)
    assert rig.rows("SELECT DISTINCT status, retry_count FROM jobs") == [("pending", 0)]


@pytest.mark.extended
@pytest.mark.faults
@pytest.mark.parametrize("part", ["claim", "complete", "heartbeat", "rescue", "handler"])
def test_the_worker_outlives_the_loss_of_each_of_its_connections(rig: Rig, part: str) -> None:
    runs: list[int] = []
    lock = threading.Lock()

    def handler(job: Job, context: Context) -> None:
        with lock:
            runs.append(job.id)
        if job.id % 2:
            context.commit(
                lambda cursor: cursor.execute(b"UPDATE jobs SET payload = '1' WHERE id = %s", [job.id]).close()
            )

    worker = rig.worker(Queue("jobs", handler), lease_seconds=2.0, poll_seconds=0.2)
    for _ in range(3):
        rig.insert(40)
        pids = eventually(lambda: connected(rig, part))
        for pid in pids:
            rig.sql.execute(b"SELECT pg_terminate_backend(%s)", [pid])
        rig.insert(40)
        eventually(lambda: set(rig.states()) == {"completed"})
    assert sorted(set(runs)) == list(range(1, 241))
    assert rig.rows("SELECT DISTINCT retry_count FROM jobs") == [(0,)]
    eventually(lambda: connected(rig, part) or part == "handler")
    assert worker.stuck() is None


def test_all_connections_lost_at_once(rig: Rig) -> None:
    rig.insert(100)
    rig.worker(Queue("jobs", nothing), poll_seconds=0.2)
    for _ in range(3):
        rig.sql.execute(
            b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'jobqueue:%' AND datname = current_database()"
        )
        rig.insert(20)
    eventually(lambda: rig.states() == {"completed": 160})


def test_a_change_of_the_table_under_a_prepared_statement_is_survived(rig: Rig) -> None:
    rig.worker(Queue("jobs", nothing, columns=("kind",)), poll_seconds=0.2, concurrency=1)
    for n in range(4):
        rig.insert(3)
        eventually(lambda: set(rig.states()) == {"completed"})
        rig.sql.execute(
            f"ALTER TABLE jobs ALTER COLUMN kind TYPE varchar({100 + n})".encode()
            if n % 2
            else b"ALTER TABLE jobs ALTER COLUMN kind TYPE text"
        )
    rig.insert(3)
    eventually(lambda: rig.states() == {"completed": 15})


def test_several_workers_share_a_queue_and_run_each_job_once(rig: Rig) -> None:
    runs: list[int] = []
    for name in "abc":
        rig.worker(Queue("jobs", lambda job, _: runs.append(job.id)), name=name)
    for _ in range(10):
        rig.insert(50, priority="=4 + generate_series % 3")
    eventually(lambda: rig.states() == {"completed": 500})
    assert sorted(runs) == list(range(1, 501))


def test_a_thread_pool_of_one_works_on_several_queues(rig: Rig) -> None:
    rig.table("work")
    rig.insert(10)
    rig.insert(10, "work", id="=generate_series")
    rig.worker(Queue("jobs", nothing), Queue("work", nothing), concurrency=1)
    eventually(lambda: rig.states() == rig.states("work") == {"completed": 10})


def test_a_job_whose_times_python_cannot_hold_is_worked_on_as_any_other(rig: Rig) -> None:
    rig.rows("ALTER TABLE jobs ADD COLUMN day date")
    rig.insert(1, run_after="-infinity", created_at="infinity", day="infinity")
    rig.insert(1, run_after="infinity")
    seen: list[tuple[object, ...]] = []
    rig.run_once(
        lambda job, _: seen.append((job.columns["run_after"], job.columns["created_at"], job.columns["day"])),
        columns=("run_after", "created_at", "day"),
    )
    assert seen == [(LONG_AGO, NEVER, date.max)]
    assert rig.states() == {"completed": 1, "pending": 1}
