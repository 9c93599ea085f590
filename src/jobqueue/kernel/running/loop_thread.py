"""One event loop in a thread of its own, on which the jobs of async handlers run, thousands at once."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from jobqueue.kernel.running.overtime import frame_of
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.queue import AsyncHandler

log = get_logger(__name__)

_Run = Callable[["LeasedJob", "AsyncHandler"], Coroutine[Any, Any, None]]

THREADS: Final = 8
"""How many transactions of jobs on the loop run at once."""

# Jobs whose end is told at once, and seconds after which fewer are told: a claim costs more by the statement than by the job.
_TOLD_AT_ONCE = 250
_TOLD_AFTER = 0.005

# Seconds for which a handler may keep the loop from turning before that is told.
_BLOCKED = 5.0

# How much of the stack is told then, in calls.
_FRAMES = 5

# Seconds for which the end of tasks is waited for that handlers left behind.
_LAST_FOR = 1.0


class LoopThread:
    """Runs `run(job, handler)` as a task for each job. The thread starts with the first one.

    `run` is not expected to raise, or to be cancelled before it began. When that happens all the same, `broke(job, error)` is
    called. `freed()` is called in the loop's thread after jobs have ended.
    """

    def __init__(self, run: _Run, freed: Callable[[], None], broke: Callable[[LeasedJob, BaseException], None]) -> None:
        self.threads = ThreadPoolExecutor(THREADS, "job-effects")
        self._run = run
        self._freed = freed
        self._broke = broke
        self._tasks: dict[LeasedJob, asyncio.Task[None]] = {}
        self._idle = threading.Condition()
        self._in_flight = 0
        self._untold = 0
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._asked_at: float | None = None
        self._told_blocked = False

    @property
    def in_flight(self) -> int:
        """How many jobs run or are about to."""
        return self._in_flight

    # For other threads

    def submit(self, jobs: list[tuple[LeasedJob, AsyncHandler]]) -> None:
        """Run these jobs, each by its handler."""
        with self._idle:
            self._in_flight += len(jobs)
        self._started().call_soon_threadsafe(self._begin, jobs)

    def cancel(self, job: LeasedJob) -> None:
        """Cancel the job's task, if it has one."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, [job])

    def cancel_all(self) -> None:
        """Cancel the tasks of all jobs."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, None)

    def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing is in flight; returns whether nothing is."""
        with self._idle:
            return self._idle.wait_for(lambda: self._in_flight == 0, timeout)

    def look_after(self) -> None:
        """Tell of a handler that keeps the loop from turning."""
        loop, asked_at = self._loop, self._asked_at
        if loop is None or self._closing:
            return
        if asked_at is None:
            self._asked_at = time.monotonic()
            loop.call_soon_threadsafe(self._turned)
        elif time.monotonic() - asked_at > _BLOCKED and not self._told_blocked:
            self._told_blocked = True
            frame = frame_of(self._thread) if self._thread is not None else None
            stack = traceback.extract_stack(frame)[-_FRAMES:] if frame is not None else []
            at = [f"{line.filename}:{line.lineno} {line.name}" for line in stack]
            log.error("event_loop_blocked", seconds=round(time.monotonic() - asked_at, 1), at=at)

    def close(self) -> None:
        """End the loop. Tells of handlers that did not end when they were cancelled, and leaves them."""
        self._closing = True
        for job in list(self._tasks):
            log.warning("handler_ignored_cancellation", **job.log_fields())
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_LAST_FOR)
        self.threads.shutdown(wait=False)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_exception_handler(_told)
            self._thread = threading.Thread(target=self._turn, args=(self._loop,), name="job-loop", daemon=True)
            self._thread.start()
        return self._loop

    # For the loop's thread

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._closing:
            try:
                loop.run_forever()
            except BaseException as error:
                log.error("event_loop_interrupted", exc_info=error)
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        try:
            if left:
                # However long that takes: nothing but the process's end ends this thread, as those of the pool.
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException as error:
            log.warning("event_loop_interrupted", exc_info=error)
        finally:
            loop.close()

    def _begin(self, jobs: list[tuple[LeasedJob, AsyncHandler]]) -> None:
        loop = asyncio.get_running_loop()
        for job, handler in jobs:
            task = self._tasks[job] = loop.create_task(self._run(job, handler))
            task.add_done_callback(partial(self._ended, job))

    def _cancel(self, jobs: list[LeasedJob] | None) -> None:
        # A turn later: a task that has not begun would end without a word.
        asyncio.get_running_loop().call_soon(self._cancel_now, jobs)

    def _cancel_now(self, jobs: list[LeasedJob] | None) -> None:
        for job in list(self._tasks) if jobs is None else jobs:
            if task := self._tasks.get(job):
                task.cancel()

    def _ended(self, job: LeasedJob, task: asyncio.Task[None]) -> None:
        del self._tasks[job]
        try:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is not None:
                log.error("job_task_ended", exc_info=error)
                self._broke(job, error)
        finally:
            with self._idle:
                self._in_flight -= 1
                if not self._in_flight:
                    self._idle.notify_all()
            self._untold += 1
            if self._untold == _TOLD_AT_ONCE or not self._in_flight:
                self._tell()
            elif self._untold == 1:
                task.get_loop().call_later(_TOLD_AFTER, self._tell)

    def _tell(self) -> None:
        if self._untold:
            self._untold = 0
            self._freed()

    def _turned(self) -> None:
        self._asked_at = None
        if self._told_blocked:
            self._told_blocked = False
            log.info("event_loop_free")


def _told(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody awaited: it belongs to no job's end."""
    log.error("event_loop_error", error=str(context.get("message")), exc_info=context.get("exception") or False)
