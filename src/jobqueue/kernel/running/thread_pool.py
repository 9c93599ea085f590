"""A bounded pool of threads. Unlike the standard executor's it keeps no backlog, and its threads never keep the process from
exiting."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel.job import LeasedJob

log = get_logger(__name__)


class Pool:
    """`size` threads that call `run(job)`. `freed()` is called after each job, in the job's thread.

    `run` is not expected to raise. When something is raised in it all the same, `broke(job, error)` is called before the slot
    is free, the thread ends with the error, and another takes its place.

    Threads are called one by one: a thread that takes a job calls the next one if there are more jobs, and only one is on its
    way at a time. So jobs that wait for something begin one after the other within microseconds, and jobs that are over at
    once run in the thread that is awake, without waking others that would find nothing left.
    """

    def __init__(
        self,
        size: int,
        run: Callable[[LeasedJob], None],
        freed: Callable[[], None],
        broke: Callable[[LeasedJob, BaseException], None] = lambda _job, _error: None,
    ) -> None:
        self.size = size
        self._run = run
        self._freed = freed
        self._broke = broke
        self._waiting: deque[LeasedJob] = deque()
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._abandoned: set[threading.Thread] = set()
        self._threads: set[threading.Thread] = set()
        self._started = 0
        self._unoccupied = 0
        self._called = False
        self._closed = False

    @property
    def in_flight(self) -> int:
        """How many jobs run or are about to."""
        return self._running + len(self._waiting)

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self.size - self._running - len(self._waiting)

    def submit(self, jobs: list[LeasedJob]) -> None:
        """Run `jobs`, no more than there are free slots. Threads are started as they are needed."""
        with self._lock:
            self._waiting.extend(jobs)
            self._call()

    def _call(self) -> None:
        """Call one more thread for the jobs that wait, unless one is on its way. The caller holds the lock."""
        if self._called or not self._waiting:
            return
        if self._unoccupied:
            self._called = True
            self._ready.notify()
        elif len(self._threads) < self.size:
            self._started += 1
            try:
                thread = threading.Thread(target=self._work, name=f"job-{self._started}", daemon=True)
                thread.start()
            except (RuntimeError, MemoryError) as error:
                # The jobs wait for a thread that is free, or for the next call.
                log.warning("thread_refused", threads=len(self._threads), error=str(error))
                return
            self._called = True
            self._threads.add(thread)

    def look_after(self) -> None:
        """Call a thread for jobs that wait although none is on its way, because the system refused one. For another thread."""
        with self._lock:
            self._call()

    def abandon(self, thread: threading.Thread) -> None:
        """Let another thread take the place of one that does not come back from its job. If it does, it ends."""
        with self._lock:
            if thread not in self._threads:
                return
            self._threads.discard(thread)
            self._abandoned.add(thread)
            self._end_run()
            self._call()
        self._freed()

    @property
    def abandoned(self) -> int:
        """How many threads were abandoned and have not come back."""
        return len(self._abandoned)

    def stuck(self) -> str | None:
        """Why slots are lost, or None: a thread that is gone without a word still holds its job's."""
        with self._lock:
            alive = sum(thread.is_alive() for thread in self._threads)
            if self._running > alive:
                return f"{self._running} jobs run in {alive} threads: a thread has ended without a word"
        return None

    def take_back(self) -> list[LeasedJob]:
        """Remove and return the jobs that no thread has begun."""
        with self._lock:
            unbegun = list(self._waiting)
            self._waiting.clear()
            self._idle.notify_all()
            return unbegun

    def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing is in flight; returns whether nothing is."""
        with self._lock:
            return self._idle.wait_for(lambda: self.in_flight == 0, timeout)

    def close(self) -> None:
        """Let idle threads end."""
        with self._lock:
            self._closed = True
            self._ready.notify_all()

    def _work(self) -> None:
        try:
            self._serve()
        finally:
            with self._lock:
                thread = threading.current_thread()
                if thread in self._threads:
                    self._threads.discard(thread)
                    # It may be the one that was on its way, or that jobs counted on.
                    self._called = False
                    self._call()
                self._abandoned.discard(thread)

    def _serve(self) -> None:
        waiting, run, freed = self._waiting, self._run, self._freed
        called = True
        while True:
            with self._lock:
                while not waiting:
                    if called:
                        self._called = called = False
                    if self._closed:
                        return
                    self._unoccupied += 1
                    try:
                        self._ready.wait()
                    finally:
                        self._unoccupied -= 1
                    called = True
                # In this order: a reader without the lock must never see one job too few.
                self._running += 1
                job = waiting.popleft()
                if called:
                    self._called = called = False
                self._call()
            try:
                run(job)
            except BaseException as error:
                log.error("job_thread_ended", exc_info=error)
                self._broke(job, error)
                raise
            finally:
                with self._lock:
                    abandoned = bool(self._abandoned) and threading.current_thread() in self._abandoned
                    if not abandoned:
                        self._end_run()
                if not abandoned:
                    freed()
            if abandoned:
                return

    def _end_run(self) -> None:
        """One job runs less. The caller holds the lock."""
        self._running -= 1
        if not self._running and not self._waiting:
            self._idle.notify_all()
