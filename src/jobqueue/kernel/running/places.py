"""Where leased jobs run: in the pool's threads, or on the event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.queue import Route
    from jobqueue.kernel.running.loop_thread import LoopThread
    from jobqueue.kernel.running.thread_pool import Pool


class Places:
    """The pool and the loop, as one to the claimer. `routes` are of the queues that have jobs for the loop.

    A job on the loop takes none of the pool's slots.
    """

    def __init__(self, pool: Pool, loop: LoopThread, routes: Mapping[str, Route]) -> None:
        self.size = pool.size
        self._pool = pool
        self._loop = loop
        self._routes = routes

    @property
    def in_flight(self) -> int:
        """How many jobs run or are about to."""
        return self._pool.in_flight + self._loop.in_flight

    @property
    def free(self) -> int:
        """How many slots of the pool are free."""
        return self._pool.free

    def submit(self, jobs: list[LeasedJob]) -> None:
        """Run `jobs`, all of one queue; no more of them in threads than there are free slots."""
        route = self._routes.get(jobs[0].queue)
        if route is None:
            self._pool.submit(jobs)
            return
        awaited = [(job, handler) for job in jobs if (handler := route(job)) is not None]
        if awaited:
            self._loop.submit(awaited)
        if len(awaited) < len(jobs):
            apart = {id(job) for job, _ in awaited}
            self._pool.submit([job for job in jobs if id(job) not in apart])

    def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing is in flight; returns whether nothing is."""
        deadline = time.monotonic() + timeout
        return self._pool.wait_idle(timeout) and self._loop.wait_idle(max(0.0, deadline - time.monotonic()))

    def interrupt(self) -> None:
        """Cancel what is on the loop. Those in threads notice by themselves."""
        self._loop.cancel_all()

    def look_after(self) -> None:
        """Do what time brings with it. For another thread, about twice a second."""
        self._pool.look_after()
        self._loop.look_after()

    def close(self) -> None:
        """Let idle threads and the loop end."""
        self._pool.close()
        self._loop.close()
