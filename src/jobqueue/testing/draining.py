"""Does all that is due in this process, and raises what made jobs fail."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobqueue.database_session import DatabaseSession, connect
from jobqueue.errors import Cancelled, Interrupted, LeaseLost, Permanent, Retry, Snooze
from jobqueue.hosting.host_app import App
from jobqueue.kernel import Context, Job, Queue, Worker, WorkerOptions
from jobqueue.kernel.database.statements import Description, render, statement
from jobqueue.kernel.queue import AsyncHandler, is_async
from jobqueue.observe.metrics import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Sequence

# Seconds between two looks of a worker that was not woken, and between two of ours.
_POLL = 0.2
_LOOK = 0.01

_BUSY = (
    b"SELECT EXISTS (SELECT FROM {table} WHERE status = {pending} AND run_after <= clock_timestamp()"
    b" OR status = {processing} AND locked_by = %(worker)s)"
)

# What a handler raises to say that all is as it should be.
_MEANT = (Cancelled, Interrupted, LeaseLost, Retry, Snooze)


class JobsFailed(ExceptionGroup[Exception]):
    """Attempts failed while a queue was drained. The exceptions are those that the handlers raised, each with a note of its job.

    One that is no Exception, such as SystemExit, is the cause of a RuntimeError.
    """


def drain(
    of: App | Sequence[Queue], dsn: str, *, timeout: float = 30.0, concurrency: int = 4, failing: bool = False
) -> Counter[str]:
    """Work on the queues of `of`, and on those alone, until no job is due; returns how many attempts had each outcome.

    The outcomes are those of the metric `jobs_finished_total`: completed, retried, failed, cancelled, released. A job that is to
    run later, because of its `run_after` or after a Retry, a Snooze or a failed attempt, is left for then.

    Raises JobsFailed when a handler raised Permanent or what is no verdict, unless `failing` says that this is expected; each
    attempt has been recorded then. Raises TimeoutError when there is still work that is due after `timeout` seconds, and
    ConfigurationError when a queue or a handler is not as it must be.
    """
    failures = _Failures()
    queues = [failures.noted(queue) for queue in (of.queues() if isinstance(of, App) else of)]
    worker = Worker(WorkerOptions(dsn, concurrency=concurrency, poll_seconds=_POLL), queues)
    _work(worker, dsn, queues, time.monotonic() + timeout)
    if failures.raised and not failing:
        number = len(failures.raised)
        raise JobsFailed(f"{number} attempt{'s' if number > 1 else ''} failed", failures.raised)
    count = worker.metrics.registry.get_sample_value
    found = {
        outcome: sum(
            int(count("jobqueue_jobs_finished_total", {"queue": queue.name, "outcome": outcome}) or 0)
            for queue in queues
        )
        for outcome in OUTCOMES
    }
    return Counter({outcome: number for outcome, number in found.items() if number})


def _work(worker: Worker, dsn: str, queues: Sequence[Queue], until: float) -> None:
    """Run the worker until the tables say that nothing is left: a worker that is idle may not have heard of a job's own job yet."""
    worker.start()
    try:
        with connect(dsn, "testing") as connection:
            tables = [_described(connection, queue.name) for queue in queues]
            while not worker.idle or any(_is_busy(connection, table, worker.name) for table in tables):
                if time.monotonic() > until:
                    raise TimeoutError("there is still work that is due")
                time.sleep(_LOOK)
    finally:
        worker.drain(max(0.0, until - time.monotonic()))


def _described(connection: DatabaseSession, name: str) -> Description:
    [row] = connection.execute(statement("describe_queue"), {"name": name}).fetchall()
    return Description(name, *row)


def _is_busy(connection: DatabaseSession, table: Description, worker: str) -> bool:
    return connection.execute(render(_BUSY, table), {"worker": worker}).fetchone() == (True,)


class _Failures:
    """What handlers raised that is no verdict, or Permanent."""

    def __init__(self) -> None:
        self.raised: list[Exception] = []
        self._adding = threading.Lock()

    def noted(self, queue: Queue) -> Queue:
        """The queue with handlers that have their failures noted."""
        find = queue.on_loop

        def find_noted(job: Job) -> AsyncHandler | None:
            found = find(job) if find is not None else None
            return None if found is None else self._noted(found)

        return replace(queue, handler=self._noted(queue.handler), on_loop=None if find is None else find_noted)

    def _noted(self, handler: Any) -> Any:
        if is_async(handler):

            async def awaited(job: Job, context: Context) -> object:
                try:
                    return self._returned(job, await handler(job, context))
                except BaseException as error:
                    self._note(job, error)
                    raise

            return awaited

        def called(job: Job, context: Context) -> object:
            try:
                return self._returned(job, handler(job, context))
            except BaseException as error:
                self._note(job, error)
                raise

        return called

    def _returned(self, job: Job, returned: object) -> object:
        if isinstance(returned, Permanent):
            self._note(job, returned)
        return returned

    def _note(self, job: Job, error: BaseException) -> None:
        if isinstance(error, _MEANT):
            return
        if not isinstance(error, Exception):
            error = _caused_by(error)
        error.add_note(f"attempt {job.attempt} at job {job.id} of {job.queue}")
        with self._adding:
            self.raised.append(error)


def _caused_by(error: BaseException) -> Exception:
    failure = RuntimeError(f"the handler raised {type(error).__name__}")
    failure.__cause__ = error
    return failure
