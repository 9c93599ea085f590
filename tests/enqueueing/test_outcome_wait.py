"""Who waits for a job hears how it ended, once, or that it has not."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.waiting import eventually

from jobqueue import JobEnd, enqueue, wait, wait_async
from jobqueue.enqueueing.outcome_wait import _Look
from jobqueue.kernel import Context, Job, Queue, Worker, WorkerOptions
from jobqueue.kernel.database.store import UnknownQueue

if TYPE_CHECKING:
    from collections.abc import Callable

Watcher = psycopg.Connection[Any]

WAITERS: list[Callable[..., JobEnd]] = [wait, lambda *a, **k: asyncio.run(wait_async(*a, **k))]

either = pytest.mark.parametrize("waiter", WAITERS, ids=["sync", "async"])


def waiting(watcher: Watcher) -> int:
    row = watcher.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'jobqueue:wait'").fetchone()
    assert row
    return int(row[0])


@either
@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_end_that_comes_while_somebody_waits(database: str, watcher: Watcher, waiter: Any, status: str) -> None:
    id_ = enqueue(watcher, "a")
    ends: list[JobEnd] = []
    thread = threading.Thread(target=lambda: ends.append(waiter(database, id_)))
    thread.start()
    eventually(lambda: waiting(watcher) == 1)
    watcher.execute("UPDATE jobs SET status = %s, error_message = 'why' WHERE id = %s", [status, id_])
    thread.join()
    assert ends == [JobEnd("jobs", id_, status, "why")]  # type: ignore[arg-type]
    eventually(lambda: waiting(watcher) == 0)


@either
def test_a_real_worker_and_a_queue_of_the_hosts_own(database: str, watcher: Watcher, waiter: Any) -> None:
    watcher.execute(b"CREATE TABLE invoices (id uuid PRIMARY KEY DEFAULT gen_random_uuid())")
    watcher.execute(b"SELECT jobqueue.adopt('invoices', completed => 'DONE', failed => 'DEAD')")
    rows = watcher.execute("INSERT INTO invoices (max_retries) VALUES (5), (1) RETURNING id").fetchall()

    def send(job: Job, context: Context) -> None:
        if job.max_retries == 1:
            raise ValueError("no such customer")

    Worker(WorkerOptions(database), [Queue("invoices", send)]).run_once(30)
    good, bad = (waiter(database, id_, queue="invoices") for (id_,) in rows)
    assert good == JobEnd("invoices", rows[0][0], "completed", None)
    assert (bad.status, bad.error) == ("failed", "ValueError: no such customer")
    watcher.execute(b"DROP TABLE invoices")
    watcher.execute(b"DELETE FROM jobqueue.queues WHERE name = 'invoices'")


@either
def test_a_job_that_has_not_ended_in_time(database: str, watcher: Watcher, waiter: Any) -> None:
    id_ = enqueue(watcher, "a")
    with pytest.raises(TimeoutError, match=rf"^job {id_} of jobs is still pending after 0.1 s$"):
        waiter(database, id_, timeout=0.1)
    eventually(lambda: waiting(watcher) == 0)


@either
def test_a_job_that_is_not_there(database: str, waiter: Any) -> None:
    with psycopg.connect(database) as connection:
        id_ = enqueue(connection, "a")
        with pytest.raises(
            LookupError, match=rf"^there is no job {id_} in jobs: its transaction has not been committed"
        ):
            waiter(database, id_)


@either
def test_a_queue_that_is_not_there(database: str, waiter: Any) -> None:
    with pytest.raises(UnknownQueue, match="there is no queue 'invoices'"):
        waiter(database, 1, queue="invoices")


@either
@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), -1.0])
def test_a_wait_without_an_end_is_refused(database: str, waiter: Any, timeout: float) -> None:
    with pytest.raises(ValueError, match="it must be a number of seconds"):
        waiter(database, 1, timeout=timeout)


@either
def test_a_job_that_gave_way_ends_as_its_twin_does(database: str, watcher: Watcher, waiter: Any) -> None:
    with psycopg.connect(database) as one, psycopg.connect(database) as other:
        first, second = (enqueue(connection, "a", unique_key="k") for connection in (one, other))
    ran: list[int] = []
    Worker(WorkerOptions(database), [Queue("jobs", lambda job, _context: ran.append(job.id))]).run_once(30)
    assert ran == [first]
    assert waiter(database, second) == JobEnd("jobs", first, "completed", None)


def test_a_host_without_rights_in_our_schema_may_wait(database: str, watcher: Watcher) -> None:
    id_ = enqueue(watcher, "a")
    watcher.execute("UPDATE jobs SET status = 'completed' WHERE id = %s", [id_])
    role = f"host_{watcher.info.backend_pid}"
    watcher.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'canary'".encode())
    watcher.execute(f"GRANT SELECT ON jobs TO {role}".encode())
    info = psycopg.conninfo.make_conninfo(database, user=role, password="canary")
    assert wait(info, id_).status == "completed"
    watcher.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_looks_are_few_when_a_job_takes_long() -> None:
    look = _Look("jobs", 1, 60.0)
    rests = [look.rest() for _ in range(20)]
    assert rests[0] == 0.02
    assert rests == sorted(rests)
    assert rests[-1] == 1.0


def test_a_task_that_is_cancelled_closes_its_connection(database: str, watcher: Watcher) -> None:
    id_ = enqueue(watcher, "a")

    async def cancel() -> None:
        task = asyncio.create_task(wait_async(database, id_))
        while not waiting(watcher):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    eventually(lambda: waiting(watcher) == 0)
