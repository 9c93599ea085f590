"""Runs of a queue that somebody else's scheduler asks for: bounded in time, in a process that serves HTTP anyway.

A run takes work for some seconds and is answered soon after. What it has begun by then is not thrown away: it goes on
in the background under its lease, and if the process dies, the lease runs out and a later run takes it over.
One run at a time: whoever asks meanwhile waits, so that memory stays that of one archive.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import psycopg

from jobqueue.kernel import Worker
from jobqueue.kernel.database.link import Link
from jobqueue.kernel.database.store import Store, describe
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel import Context, Job, Queue, WorkerOptions
    from jobqueue.observe.metrics import Metrics

log = get_logger(__name__)

TAKE_SECONDS: Final = 20.0
"""How long a run takes work."""

ANSWER_SECONDS: Final = 24.0
"""When a run is answered at the latest: a second below what schedulers were promised."""

# Longer than any archive takes: what ends the background part of a run is the work, or `stop`.
_BACKGROUND_SECONDS: Final = 24 * 3600.0
_GLANCE: Final = 0.05


class Unavailable(Exception):
    """No run can be made now: the database does not answer, or the process is stopping."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run did: jobs that it took, and jobs that it had given back to the queue from workers that died."""

    processed: int
    recovered: int


class BoundedRuns:
    """Makes runs of `queue` with workers of their own. `restore` puts right what a second worker says in the metrics."""

    def __init__(
        self,
        options: WorkerOptions,
        queue: Queue,
        metrics: Metrics,
        *,
        redact: Callable[[str], str] = str,
        restore: Callable[[], None] = lambda: None,
        take_seconds: float = TAKE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._options = replace(options, concurrency=1)
        self._queue = queue
        self._metrics = metrics
        self._redact = redact
        self._restore = restore
        self._take = take_seconds
        self._answer = answer_seconds
        self._lock = threading.Lock()
        self._current: _Run | None = None
        self._stopping = False

    def run(self) -> Ran:
        """Take work until the time is up or nothing is due. Raises Unavailable."""
        began = time.monotonic()
        if not self._lock.acquire(timeout=self._take):
            # An earlier run's archive is still under way.
            return Ran(0, 0)
        try:
            if self._stopping:
                raise Unavailable("the process is stopping")
            run = self._current = _Run(self._options, self._queue, self._metrics, self._redact, self._restore)
            threading.Thread(target=self._make, args=(run, began + self._take), name="bounded-run", daemon=True).start()
        except BaseException:
            self._lock.release()
            raise
        run.ended.wait(max(0.0, began + self._answer - time.monotonic()))
        if run.error is not None:
            raise Unavailable("the database does not answer") from run.error
        return Ran(run.processed, run.recovered)

    def stop(self, timeout: float = 3.0) -> bool:
        """Give back what is under way and make no more runs; returns whether all of it ended within `timeout` seconds."""
        self._stopping = True
        run = self._current
        if run is None:
            return True
        run.hurry()
        return run.ended.wait(timeout)

    def _make(self, run: _Run, until: float) -> None:
        try:
            run.work(until)
        except psycopg.OperationalError as error:
            log.warning("bounded_run_failed", queue=self._queue.name, error=str(error).strip())
            run.error = error
        finally:
            self._lock.release()
            run.ended.set()


class _Run:
    def __init__(
        self,
        options: WorkerOptions,
        queue: Queue,
        metrics: Metrics,
        redact: Callable[[str], str],
        restore: Callable[[], None],
    ) -> None:
        self.processed = 0
        self.recovered = 0
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self._options = options
        self._name = queue.name
        self._handler = queue.handler
        self._restore = restore
        self._worker = Worker(options, [replace(queue, handler=self._handle)], metrics=metrics, redact=redact)
        self._hurried = False

    def work(self, until: float) -> None:
        """Rescue, take work until time.monotonic() reaches `until` or none is due, and see to the end what was begun."""
        self.recovered = self._rescue()
        self._worker.start()
        self._restore()
        while time.monotonic() < until and not self._hurried and not self._worker.idle:
            time.sleep(_GLANCE)
        self._worker.drain(_BACKGROUND_SECONDS)

    def hurry(self) -> None:
        self._hurried = True
        self._worker.hurry()

    def _rescue(self) -> int:
        """Take jobs away from workers that stopped renewing; returns how many will be tried again."""
        link = Link(self._options.conninfo, "rescue", prepare=not self._options.pooled)
        try:
            store = Store(describe(link, self._name))
            store.lease_orphans(link, self._options.lease_seconds)
            count = 0
            while rescued := store.rescue(link, self._options.lease_seconds):
                count += sum(not job.failed for job in rescued)
            return count
        finally:
            link.close()

    def _handle(self, job: Job, context: Context) -> None:
        self.processed += 1
        self._handler(job, context)
