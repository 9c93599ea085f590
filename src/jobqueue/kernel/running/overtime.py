"""Handlers that take longer than their queue's timeout.

A thread cannot be ended from outside. `Context.checkpoint` raises TimedOut once the time is over, and most handlers end there. One
that has not come back some seconds later is given up: its job's outcome is recorded without it, under the same lease, so that
nothing that it still does can count; its lease is renewed no more; and its slot gets another thread.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.leasing.leases import Leases
    from jobqueue.kernel.queue import Queue

log = get_logger(__name__)

# Seconds that a handler has to come to a checkpoint, after a timeout of at least as long.
_GRACE = 5.0
_LEAST_GRACE = 0.5


class Overdue(NamedTuple):
    """A job that is given up, the thread that runs it, and for how many seconds it has."""

    job: LeasedJob
    thread: threading.Thread
    seconds: float


class _TimedRun(NamedTuple):
    job: LeasedJob
    thread: threading.Thread
    at: float
    grace: float


class Overtime:
    """The jobs in work whose queue has a timeout. `begin` and `end` are called in the job's thread, `overdue` in another one."""

    def __init__(self, queues: Iterable[Queue], leases: Leases) -> None:
        self._timeouts = {queue.name: queue.timeout for queue in queues if queue.timeout is not None}
        self._leases = leases
        self._started: dict[int, _TimedRun] = {}
        self._given_up: dict[int, _TimedRun] = {}
        self._lock = threading.Lock()

    def begin(self, job: LeasedJob) -> None:
        """The job's handler is about to be called."""
        timeout = self._timeouts.get(job.queue)
        if timeout is None:
            return
        now = time.monotonic()
        job.until = now + timeout
        grace = max(_LEAST_GRACE, min(timeout, _GRACE))
        with self._lock:
            self._started[id(job)] = _TimedRun(job, threading.current_thread(), now, grace)

    def end(self, job: LeasedJob) -> bool:
        """The job's handler has ended; returns whether that still counts."""
        if job.until is None:
            return True
        with self._lock:
            counts = self._started.pop(id(job), None) is not None
            given_up = self._given_up.pop(id(job), None)
        if given_up is not None:
            log.warning("stuck_handler_ended", after=round(time.monotonic() - given_up.at, 1), **job.log_fields())
        return counts

    def overdue(self, now: float) -> list[Overdue]:
        """Give up the jobs whose handlers had to come back before `now`, a time of time.monotonic(); returns them.

        One that waits for the database is left alone: it cannot come to its checkpoint's end.
        """
        found = []
        for key, started in list(self._started.items()):
            job = started.job
            if job.until is None or now < job.until + started.grace or not self._leases.is_fresh(job):
                continue
            with self._lock:
                if self._started.pop(key, None) is None:
                    continue
                self._given_up[key] = started
            found.append(Overdue(job, started.thread, now - started.at))
        return found

    def stuck(self) -> dict[str, int]:
        """How many handlers were given up and have not come back, by queue; every queue with a timeout is named."""
        counts = dict.fromkeys(self._timeouts, 0)
        for started in list(self._given_up.values()):
            counts[started.job.queue] += 1
        return counts


def frame_of(thread: threading.Thread) -> FrameType | None:
    """What a thread is in the middle of; None when that cannot be told."""
    return sys._current_frames().get(thread.ident or 0)


def whereabouts(thread: threading.Thread) -> str | None:
    """The line of code that a thread is at; None when that cannot be told."""
    frame = frame_of(thread)
    if frame is None:
        return None
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
