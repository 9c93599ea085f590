"""The pool: jobs that wait run side by side, jobs that are over at once do not wake everybody."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

import pytest
from tests.support.waiting import eventually

from jobqueue.kernel.running.thread_pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobqueue.kernel.job import LeasedJob

SIZE = 20
FATAL = cast("LeasedJob", object())


def jobs(count: int) -> list[LeasedJob]:
    """The pool only hands them on."""
    return cast("list[LeasedJob]", list(range(count)))


class Runs:
    """What ran, in which thread; `gate` holds the jobs until it is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.threads: list[int] = []
        self.freed = 0
        self.pool = Pool(SIZE, self._run, self._freed)

    def _run(self, job: LeasedJob) -> None:
        self.threads.append(threading.get_ident())
        if job is FATAL:
            raise ValueError
        self.gate.wait()

    def _freed(self) -> None:
        self.freed += 1


@pytest.fixture
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.gate.set()
    runs.pool.close()


def began(runs: Runs, count: int) -> Callable[[], bool]:
    return lambda: len(runs.threads) == count


def test_jobs_that_wait_are_all_begun(runs: Runs) -> None:
    runs.pool.submit(jobs(SIZE // 2))
    eventually(began(runs, SIZE // 2))
    runs.pool.submit(jobs(SIZE // 2))
    eventually(began(runs, SIZE))
    assert len(set(runs.threads)) == SIZE
    assert (runs.pool.in_flight, runs.pool.free) == (SIZE, 0)


def test_threads_that_went_to_rest_are_called_again(runs: Runs) -> None:
    for round_ in range(1, 6):
        runs.gate.clear()
        runs.pool.submit(jobs(SIZE))
        eventually(began(runs, SIZE * round_))
        runs.gate.set()
        assert runs.pool.wait_idle(5.0)
    assert len(set(runs.threads)) == SIZE
    eventually(lambda: runs.freed == SIZE * 5)


def test_jobs_that_are_over_at_once_need_few_threads(runs: Runs) -> None:
    runs.gate.set()
    for _ in range(50):
        runs.pool.submit(jobs(SIZE))
        assert runs.pool.wait_idle(5.0)
    assert len(runs.threads) == 50 * SIZE
    assert len(set(runs.threads)) < SIZE


def test_jobs_that_nobody_has_begun_can_be_taken_back(runs: Runs) -> None:
    runs.pool.submit(jobs(SIZE))
    eventually(began(runs, SIZE))
    runs.gate.set()
    assert runs.pool.wait_idle(5.0)
    closed = Pool(0, lambda _: None, lambda: None)
    closed.submit(jobs(3))
    assert (len(closed.take_back()), closed.in_flight) == (3, 0)


def test_a_thread_that_ends_with_an_error_tells_its_job_and_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    heard: list[object] = []

    def run(job: LeasedJob) -> None:
        heard.append(job)
        if job is FATAL:
            raise SystemExit

    def broke(job: LeasedJob, error: BaseException) -> None:
        # The slot is not free yet: a drain waits for what is done here.
        heard.append((job, type(error), pool.in_flight))

    pool = Pool(1, run, lambda: None, broke)
    pool.submit([FATAL, *jobs(1)])
    assert pool.wait_idle(5.0)
    assert heard == [FATAL, (FATAL, SystemExit, 2), 0]
    assert pool.stuck() is None
    pool.close()


def test_a_thread_that_the_system_refuses_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ran: list[object] = []
    pool = Pool(2, ran.append, lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.submit(jobs(2))
    assert (ran, pool.in_flight) == ([], 2)
    pool.look_after()
    assert pool.wait_idle(5.0)
    assert ran == [0, 1]
    pool.close()


def test_a_thread_that_is_gone_without_a_word_is_told(runs: Runs) -> None:
    runs.pool.submit(jobs(2))
    eventually(began(runs, 2))
    assert runs.pool.stuck() is None
    runs.pool._threads.pop()
    assert runs.pool.stuck() == "2 jobs run in 1 threads: a thread has ended without a word"


def test_a_thread_that_ends_with_an_error_gives_its_slot_back(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda details: ended.append(details.exc_type))
    runs.pool.submit([FATAL])
    eventually(lambda: ended == [ValueError])
    assert (runs.pool.free, runs.freed) == (SIZE, 1)
