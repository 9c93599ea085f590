"""A worker on `publish_jobs` that works only when the test lets it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from tests.support.waiting import eventually

from jobqueue.errors import Interrupted
from jobqueue.kernel import Backoff, Queue, Worker, WorkerOptions
from jobqueue.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.host import Host

    from jobqueue.kernel import Context, Handler, Job


class Later(Backoff):
    """No retry comes by itself while a test looks at its row."""

    def delay(self, retry: int) -> float:
        return 600.0


def _give_back(_job: Job, _context: Context) -> None:
    raise Interrupted("the test has ended")


class GatedWorker:
    """A worker on `publish_jobs` in this process that works only within `run`, as the test tells it."""

    def __init__(self, host: Host, redact: Callable[[str], str] = str) -> None:
        self.metrics = Metrics()
        self._host = host
        self._handler: Handler | None = None
        self._may_work = threading.Event()
        queue = Queue("publish_jobs", self._handle, columns=("file_id", "key_prefix"), backoff=Later())
        options = WorkerOptions(host.dsn, concurrency=3, lease_seconds=30, poll_seconds=60)
        self._worker = Worker(options, [queue], metrics=self.metrics, redact=redact)

    def __enter__(self) -> Self:
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A job that waits to be let through must not hold up the end.
        self._handler = _give_back
        self._may_work.set()
        self._worker.drain(5.0)

    def run(self, handler: Handler) -> None:
        """Have `handler` work on everything that is due, and return when nothing is any more."""
        self._handler = handler
        self._may_work.set()
        eventually(self._nothing_is_due, 30)
        self._may_work.clear()

    def _handle(self, job: Job, context: Context) -> None:
        self._may_work.wait()
        assert self._handler is not None
        self._handler(job, context)

    def _nothing_is_due(self) -> bool:
        due = "status = 'processing' AND locked_by <> 'another' OR status = 'pending' AND run_after <= now()"
        return not self._host.rows(f"SELECT FROM publish_jobs WHERE {due}")
