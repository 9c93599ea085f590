"""Async handlers: all on one event loop, beside the worker's threads, with outcomes like everybody's."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import pytest
from tests.support.gated_worker import Later
from tests.support.waiting import eventually

from jobqueue.kernel import Queue
from jobqueue.kinds import Kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Context, Job


class Gate:
    """Jobs that wait on the loop until they are let through."""

    def __init__(self) -> None:
        self.waiting = 0
        self.most = 0
        self.ended: list[str] = []
        self._open = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def handle(self, _job: Job, _context: Context) -> None:
        self._loop = asyncio.get_running_loop()
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self._open.wait()
            self.ended.append("through")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        finally:
            self.waiting -= 1

    async def stay(self, job: Job, context: Context) -> None:
        """Wait, and pass over being cancelled, however often."""
        while not self._open.is_set():
            with suppress(asyncio.CancelledError):
                await self.handle(job, context)

    def open(self) -> None:
        if self._loop is not None:
            # It may have ended.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._open.set)


class Said:
    """What the loop's thread logs."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, dict[str, object]]] = []

    def _take(self, event: str, **fields: object) -> None:
        self._lines.append((event, fields))

    info = warning = error = _take

    def of(self, event: str) -> list[dict[str, object]]:
        return [fields for said, fields in self._lines if said == event]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    said = Said()
    monkeypatch.setattr("jobqueue.kernel.running.loop_thread.log", said)
    return said


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def test_hundreds_wait_at_once_and_take_no_threads_from_others(rig: Rig, gate: Gate) -> None:
    rig.table("plain")
    rig.insert(600)
    rig.insert(3, "plain", id="=generate_series")
    done: list[str] = []
    worker = rig.worker(
        Queue("jobs", gate.handle), Queue("plain", lambda job, _: done.append(str(job.id))), concurrency=1
    )
    eventually(lambda: gate.waiting == 600)
    eventually(lambda: len(done) == 3)
    assert not worker.idle
    gate.open()
    eventually(lambda: rig.states() == {"completed": 600})


def test_a_queues_limit_bounds_its_async_jobs(rig: Rig, gate: Gate) -> None:
    rig.insert(20)
    rig.worker(Queue("jobs", gate.handle, limit=7), concurrency=2)
    eventually(lambda: gate.waiting == 7)
    gate.open()
    eventually(lambda: rig.states() == {"completed": 20})
    assert gate.most == 7


def test_a_pool_that_is_full_does_not_keep_the_loop_from_its_jobs(rig: Rig, gate: Gate) -> None:
    rig.table("plain")
    rig.insert(1, "plain", id="=generate_series")
    stop, began = threading.Event(), threading.Event()

    def hold(_job: Job, _context: Context) -> None:
        began.set()
        stop.wait()

    rig.worker(Queue("plain", hold), Queue("jobs", gate.handle), concurrency=1)
    assert began.wait(10.0)
    rig.insert(5)
    eventually(lambda: gate.waiting == 5)
    stop.set()
    gate.open()
    eventually(lambda: rig.states() == {"completed": 5})


def test_what_is_awaited_of_the_context_is_what_the_others_call(rig: Rig) -> None:
    rig.sql.execute(b"CREATE TABLE effects (said text)")
    seen: list[Any] = []

    async def handle(job: Job, context: Context) -> None:
        await context.acheckpoint()
        with context.stage("read"):
            seen.append(await context.aread("SELECT %(n)s + 1", {"n": 41}))
        await context.awrite(lambda cursor: cursor.execute("INSERT INTO effects VALUES ('written')"))
        await context.acommit(lambda cursor: cursor.execute("INSERT INTO effects VALUES ('committed')"))
        seen.append(threading.current_thread().name)

    rig.insert()
    rig.run_once(handle)  # type: ignore[arg-type]
    assert seen == [[(42,)], "job-loop"]
    assert rig.rows("SELECT said FROM effects ORDER BY said") == [("committed",), ("written",)]
    assert rig.states() == {"completed": 1}


def test_each_sort_of_handler_is_told_the_others_steps(rig: Rig) -> None:
    """What blocks would hold up all jobs of the loop; what is awaited would never happen in a thread."""

    async def blocks(_job: Job, context: Context) -> None:
        context.commit(lambda _cursor: None)

    def forgets(_job: Job, context: Context) -> None:
        context.acommit(lambda _cursor: None)  # type: ignore[unused-coroutine]

    kinds = Kinds()
    kinds.register("blocks", blocks)
    kinds.register("forgets", forgets)
    rig.insert(kind="blocks")
    rig.insert(kind="forgets")
    rig.unstarted(kinds.queue()).run_once(20.0)
    assert rig.rows("SELECT status, error_message FROM jobs ORDER BY id") == [
        (
            "pending",
            "RuntimeError: this would hold up every job of the event loop: await context.acheckpoint, awrite, acommit or aread",
        ),
        ("pending", "RuntimeError: only an async def handler awaits context.acommit: this one calls context.commit"),
    ]


def test_kinds_of_both_sorts_share_a_queue(rig: Rig, gate: Gate) -> None:
    threads: list[str] = []
    kinds = Kinds()
    kinds.register("waits", gate.handle)
    kinds.register("works", lambda *_: threads.append(threading.current_thread().name))
    for _ in range(4):
        rig.insert(5, kind="waits")
        rig.insert(1, kind="works")
    rig.worker(kinds.queue(), concurrency=2)
    eventually(lambda: gate.waiting == 20)
    eventually(lambda: len(threads) == 4)
    assert all(name.startswith("job-") and name != "job-loop" for name in threads)
    gate.open()
    eventually(lambda: rig.states() == {"completed": 24})


def test_a_drain_cancels_what_does_not_end_and_charges_nothing(rig: Rig, gate: Gate) -> None:
    rig.insert(10)
    worker = rig.worker(Queue("jobs", gate.handle))
    eventually(lambda: gate.waiting == 10)
    assert worker.drain(0.1)
    assert gate.ended == ["cancelled"] * 10
    assert rig.rows("SELECT DISTINCT status, retry_count, lease_token FROM jobs") == [("pending", 0, None)]


def test_a_handler_that_passes_over_its_cancellation_is_told_and_left(rig: Rig, gate: Gate, said: Said) -> None:
    [stubborn] = rig.insert()
    worker = rig.worker(Queue("jobs", gate.stay))
    eventually(lambda: gate.waiting == 1)
    worker.hurry()
    assert not worker.drain(0.1)
    assert rig.rows("SELECT status, retry_count, lease_token FROM jobs") == [("pending", 0, None)]
    gate.open()
    eventually(lambda: not any(thread.name == "job-loop" for thread in threading.enumerate()))
    assert said.of("handler_ignored_cancellation") == [{"queue": "jobs", "job_id": str(stubborn), "attempt": 1}]


def test_a_lease_that_is_lost_cancels_its_job(rig: Rig, gate: Gate) -> None:
    rig.insert(3)
    rig.worker(Queue("jobs", gate.handle))
    eventually(lambda: gate.waiting == 3)
    rig.sql.execute(b"UPDATE jobs SET status = 'cancelled' WHERE id = (SELECT min(id) FROM jobs)")
    eventually(lambda: gate.ended == ["cancelled"])
    gate.open()
    eventually(lambda: rig.states() == {"cancelled": 1, "completed": 2})


def test_a_job_that_is_cancelled_in_its_commit_learns_what_became_of_it(rig: Rig) -> None:
    """The drain gives a job back; one whose transaction was under way then is completed by that."""
    rig.sql.execute(b"CREATE TABLE effects (said text)")
    inside, go_on = threading.Event(), threading.Event()

    def effects(cursor: Any) -> None:
        cursor.execute("INSERT INTO effects VALUES ('once')")
        inside.set()
        go_on.wait()

    async def handle(_job: Job, context: Context) -> None:
        await context.acommit(effects)

    rig.insert()
    worker = rig.worker(Queue("jobs", handle))
    assert inside.wait(10.0)

    def let_go() -> None:
        worker._interrupted.wait()
        go_on.set()

    threading.Thread(target=let_go).start()
    assert worker.drain(0.1)
    assert rig.rows("SELECT said FROM effects") == [("once",)]
    assert rig.states() == {"completed": 1}


def test_nothing_that_a_job_does_to_the_loop_ends_it(rig: Rig) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def handle(job: Job, _context: Context) -> None:
        loop = asyncio.get_running_loop()
        match job.columns["kind"]:
            case "stops":
                loop.stop()
            case "leaves":
                # Nobody awaits it: what it raises goes through the loop.
                loop.leaving = loop.create_task(leave())  # type: ignore[attr-defined]
            case "cancels":
                for task in asyncio.all_tasks():
                    task.cancel()
                await asyncio.sleep(0)
        await asyncio.sleep(0.001)

    for kind in ("stops", "leaves", "cancels", "stops", "plain"):
        rig.insert(kind=kind)
    worker = rig.unstarted(Queue("jobs", handle, columns=("kind",), backoff=Later(), limit=1))
    assert worker.run_once(20.0)
    assert rig.rows("SELECT kind, status, retry_count FROM jobs ORDER BY kind, id") == [
        ("cancels", "pending", 1),
        ("leaves", "completed", 0),
        ("plain", "completed", 0),
        ("stops", "completed", 0),
        ("stops", "completed", 0),
    ]


@pytest.mark.parametrize(("on_timeout", "left"), [("retry", ("pending", 1)), ("permanent", ("failed", 5))])
def test_a_job_whose_time_is_over_is_cancelled_where_it_awaits(
    rig: Rig, gate: Gate, on_timeout: Literal["retry", "permanent"], left: tuple[str, int]
) -> None:
    queue = Queue("jobs", gate.handle, backoff=Later(), timeout=0.01, on_timeout=on_timeout)
    rig.insert()
    assert rig.unstarted(queue).run_once(20.0)
    assert gate.ended == ["cancelled"]
    assert rig.rows("SELECT status, retry_count, error_message FROM jobs") == [
        (*left, "the handler took longer than the queue's timeout of 0.01 s")
    ]


def test_a_timeout_of_a_handlers_own_is_an_error_like_any_other(rig: Rig) -> None:
    async def handle(_job: Job, _context: Context) -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    rig.insert()
    queue = Queue("jobs", handle, timeout=60.0, on_timeout="permanent", permanent=(LookupError,), backoff=Later())
    assert rig.unstarted(queue).run_once(20.0)
    assert rig.rows("SELECT status, error_message FROM jobs") == [("pending", "TimeoutError")]


def test_a_job_that_holds_the_loop_up_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    monkeypatch.setattr("jobqueue.kernel.running.loop_thread._BLOCKED", 0.0)
    told = threading.Event()

    async def handle(_job: Job, _context: Context) -> None:
        told.wait()

    rig.insert()
    rig.worker(Queue("jobs", handle))
    [blocked] = eventually(lambda: said.of("event_loop_blocked"))
    told.set()
    assert f"{__file__}" in str(blocked["at"])
    eventually(lambda: rig.states() == {"completed": 1})
