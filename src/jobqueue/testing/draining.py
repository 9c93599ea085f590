"""Does all that is due in this process, and raises what made jobs fail."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobqueue.errors import Cancelled, Interrupted, LeaseLost, Permanent, Retry, Snooze
from jobqueue.hosting.host_app import App
from jobqueue.kernel import Context, Job, Queue, Worker, WorkerOptions
from jobqueue.observe.metrics import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    queues = [
        replace(queue, handler=failures.noted(queue)) for queue in (of.queues() if isinstance(of, App) else list(of))
    ]
    worker = Worker(WorkerOptions(dsn, concurrency=concurrency), queues)
    worker.run_once(timeout)
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


class _Failures:
    """What handlers raised that is no verdict, or Permanent."""

    def __init__(self) -> None:
        self.raised: list[Exception] = []
        self._adding = threading.Lock()

    def noted(self, queue: Queue) -> Callable[[Job, Context], Any]:
        """The queue's handler, which has its failures noted."""

        def call(job: Job, context: Context) -> Any:
            try:
                returned: object = queue.handler(job, context)  # type: ignore[func-returns-value]
            except BaseException as error:
                self._note(job, error)
                raise
            if isinstance(returned, Permanent):
                self._note(job, returned)
            return returned

        return call

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
