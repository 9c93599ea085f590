"""Runs one job: calls the handler, and makes an outcome of its return or its exception."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from jobqueue.errors import Cancelled, Interrupted, LeaseLost, Permanent, Retry, Snooze
from jobqueue.kernel.running.outcome import Outcome
from jobqueue.observe.log_context import attach, detach
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.queue import Queue
    from jobqueue.kernel.running.context import Context
    from jobqueue.kernel.running.outcome import Verb

log = get_logger(__name__)

# Characters. Longer messages are cut: the column is for people, the log has the rest.
_LONGEST_ERROR = 2_000

# Seconds. Whatever an origin asks for in Retry-After, the job is tried again within a month.
_LONGEST_DELAY = 30 * 86_400.0


class _Ending(NamedTuple):
    """What a handler's end means: what becomes of the job, the error if there was one, the delay in seconds."""

    verb: Verb
    error: str | None = None
    delay: float = 0.0


# The one that most jobs share.
_COMPLETED = _Ending("complete")


class Runner:
    """Runs jobs of all queues, in the caller's thread. `redact` removes secrets from error messages."""

    def __init__(self, queues: dict[str, Queue], redact: Callable[[str], str]) -> None:
        self._queues = queues
        self._redact = redact

    def run(self, job: LeasedJob, context: Context) -> Outcome:
        """Run the handler. Never raises: each way in which a handler can end has an outcome."""
        queue = self._queues[job.queue]
        began = time.perf_counter()
        attach(job.log_fields)
        try:
            verb, error, delay = self._attempt(queue, job, context)
        finally:
            detach()
        took = time.perf_counter() - began
        if error is None:
            return Outcome(job, verb, None, 0.0, took, context.stages, context.committed)
        message = _storable(self._redact(error))
        return Outcome(
            job, verb, message, min(max(0.0, delay), _LONGEST_DELAY), took, context.stages, context.committed
        )

    def _attempt(self, queue: Queue, job: LeasedJob, context: Context) -> _Ending:
        try:
            queue.handler(job, context)
        except BaseException as error:
            if context.committed:
                # The effects and the outcome are in the database: a later failure cannot undo them.
                log.error("handler_failed_after_commit", exc_info=error)
                return _COMPLETED
            return self._judge(queue, job, error)
        return _COMPLETED

    def _judge(self, queue: Queue, job: LeasedJob, error: BaseException) -> _Ending:
        match error:
            case Permanent():
                return _Ending("fail", str(error))
            case Snooze():
                return _Ending("snooze", str(error), error.seconds)
            case Cancelled():
                return _Ending("cancel", str(error))
            case Interrupted():
                return _Ending("release", str(error))
            case LeaseLost():
                return _Ending("lost", str(error))
            case Retry():
                after = queue.backoff.delay(job.retry_count) if error.after is None else error.after
                return _Ending("retry", str(error), after)
            case _:
                log.error("handler_raised", exc_info=error)
                text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                return _Ending("retry", text, queue.backoff.delay(job.retry_count))


def _storable(message: str) -> str:
    """The message in a form that a text column takes: without NUL, valid Unicode, not too long."""
    return message.replace("\0", "").encode(errors="replace").decode()[:_LONGEST_ERROR]
