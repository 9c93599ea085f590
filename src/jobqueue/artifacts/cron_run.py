"""The run of artifacts that somebody else's scheduler asks for: bounded in time, in a process that serves HTTP anyway.

A run takes jobs for some seconds and is answered soon after. What it has begun by then goes on in the background under its lease;
if the process dies, the lease runs out and a later run takes the job over. There is one run at a time, so that memory stays that
of one artifact.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from jobqueue.bounded_run import ANSWER_SECONDS, BoundedRun, Unavailable
from jobqueue.kernel import Worker
from jobqueue.kernel.database.link import LOST, Link, watched
from jobqueue.kernel.database.store import Store, describe
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.bounded_run import Proceed
    from jobqueue.kernel import Context, Job, Queue, WorkerOptions
    from jobqueue.observe.metrics import Metrics

log = get_logger(__name__)

TAKE_SECONDS: Final = 20.0
"""How long a run takes jobs."""

# Seconds after which a statement without an answer is given up.
_ANSWER_SECONDS: Final = 15.0

# Longer than any artifact takes: what ends the background part of a run is the work, or `stop`.
_BACKGROUND_SECONDS: Final = 24 * 3600.0
_GLANCE: Final = 0.05


@dataclass(slots=True)
class Ran:
    """What a run did: jobs that it took, and jobs that it had given back to the queue from workers that died."""

    processed: int = 0
    recovered: int = 0


class ArtifactRuns:
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
        self._runs = BoundedRun(
            Ran, self._work, run_seconds=take_seconds, answer_seconds=answer_seconds, hurry=self._hurry
        )
        self._worker: Worker | None = None

    def run(self) -> Ran:
        """Take jobs until the time is up or none is due. Raises Unavailable."""
        # A copy: what goes on in the background changes nothing in an answer.
        return replace(self._runs.call())

    def stop(self, timeout: float = 3.0) -> bool:
        """Give back what is under way and make no more runs; returns whether all of it ended within `timeout` seconds."""
        return self._runs.stop(timeout)

    def _work(self, proceed: Proceed, ran: Ran) -> None:
        def handle(job: Job, context: Context) -> None:
            ran.processed += 1
            self._queue.handler(job, context)

        queue = replace(self._queue, handler=handle)
        worker = self._worker = Worker(self._options, [queue], metrics=self._metrics, redact=self._redact)
        if self._runs.stopping:
            # `stop` may have come before there was a worker to hurry.
            worker.hurry()
        try:
            ran.recovered = self._rescue()
            worker.start()
            self._restore()
            while proceed() and not worker.idle:
                time.sleep(_GLANCE)
            worker.drain(_BACKGROUND_SECONDS)
        except LOST as error:
            log.warning("bounded_run_failed", queue=self._queue.name, error=str(error).strip())
            raise Unavailable("the database does not answer, or takes no writes") from error

    def _hurry(self) -> None:
        if self._worker is not None:
            self._worker.hurry()

    def _rescue(self) -> int:
        """Take jobs away from workers that stopped renewing; returns how many will be tried again."""
        with watched(
            Link(self._options.conninfo, "rescue", prepare=not self._options.pooled, timeout=_ANSWER_SECONDS)
        ) as link:
            store = Store(describe(link, self._queue.name))
            store.lease_orphans(link, self._options.lease_seconds)
            count = 0
            while rescued := store.rescue(link, self._options.lease_seconds):
                count += sum(not job.failed for job in rescued)
            return count
