"""A bounded pool of threads. Unlike the standard executor's it keeps no backlog, and its threads never keep the process from
exiting."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel.job import LeasedJob


class Pool:
    """`size` threads that call `run(job)`. `freed()` is called after each job, in the job's thread.

    Threads are called one by one: a thread that takes a job calls the next one if there are more jobs, and only one is on its
    way at a time. So jobs that wait for something begin one after the other within microseconds, and jobs that are over at
    once run in the thread that is awake, without waking others that would find nothing left.
    """

    def __init__(self, size: int, run: Callable[[LeasedJob], None], freed: Callable[[], None]) -> None:
        self.size = size
        self._run = run
        self._freed = freed
        self._waiting: deque[LeasedJob] = deque()
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._threads = 0
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
        elif self._threads < self.size:
            self._called = True
            self._threads += 1
            threading.Thread(target=self._work, name=f"job-{self._threads}", daemon=True).start()

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
                self._threads -= 1

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
                    self._ready.wait()
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
            finally:
                with self._lock:
                    self._running -= 1
                    if not self._running and not waiting:
                        self._idle.notify_all()
                freed()
