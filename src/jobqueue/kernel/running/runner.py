"""Runs one job: calls the handler, and makes an outcome of its return or its exception."""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from psycopg.errors import InsufficientPrivilege

from jobqueue.backoff import Backoff
from jobqueue.errors import Cancelled, Interrupted, JobError, LeaseLost, Permanent, Retry, Snooze, TimedOut, in_seconds
from jobqueue.kernel.running.outcome import Outcome
from jobqueue.observe.log_context import attach, detach
from jobqueue.observe.logging import get_logger
from jobqueue.roles.missing_rights import GRANTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.queue import AsyncHandler, Queue
    from jobqueue.kernel.running.context import Context
    from jobqueue.kernel.running.loop_context import LoopContext
    from jobqueue.kernel.running.outcome import Verb

log = get_logger(__name__)

# Characters. Longer messages are cut: the column is for people, the log has the rest.
_LONGEST_ERROR = 2_000

# Seconds. Whatever an origin asks for in Retry-After, the job is tried again within a month.
_LONGEST_DELAY = 30 * 86_400.0

# Seconds before the next attempt when the queue's own backoff fails.
_WITHOUT_BACKOFF = 60.0

# Seconds. An attempt that waited longer for the database is not charged when it fails: connections that it had with others may
# have ended meanwhile. A shorter wait is a pause of a busy machine, of which there are many, and no peer hangs up for it.
_CHARGED_UP_TO = 2.0

# When such an attempt is made again. All that ran while the database was away come back together, and so they are spread.
_AGAIN = Backoff(first=5.0)


class _Ending(NamedTuple):
    """What a handler's end means: what becomes of the job, the error if there was one, the delay in seconds."""

    verb: Verb
    error: str | None = None
    delay: float = 0.0


# The one that most jobs share.
_COMPLETED = _Ending("complete")


class _InHand:
    """While a handler has `job` in hand: what is logged carries the job's fields, and what the handler changed is put back after.

    Under another name its lease would be renewed forever, and with another count no attempt could be written down.
    """

    __slots__ = ("_job", "_kept")

    def __init__(self, job: LeasedJob) -> None:
        self._job = job
        self._kept = (job.queue, job.id, job.retry_count)

    def __enter__(self) -> None:
        attach(self._job.log_fields)

    def __exit__(self, *_: object) -> None:
        detach()
        self._job.queue, self._job.id, self._job.retry_count = self._kept


class Runner:
    """Runs jobs of all queues, in the caller's thread or on its event loop. `redact` removes secrets from error messages."""

    def __init__(self, queues: dict[str, Queue], redact: Callable[[str], str]) -> None:
        self._queues = queues
        self._redact = redact

    def run(self, job: LeasedJob, context: Context) -> Outcome:
        """Run the handler. Each way in which a handler can end has an outcome; what hits the runner itself is raised.

        A failure that is no verdict (Retry, and whatever else is no JobError) costs no attempt where the handler had to wait for
        the database for more than two seconds in all.
        """
        queue = self._queues[job.queue]
        began = time.perf_counter()
        with _InHand(job):
            try:
                # The type says that there is nothing; a host's code may not.
                returned: object = queue.handler(job, context)
                if returned is not None:
                    raise_returned(returned)
                ending = _COMPLETED
            except BaseException as error:  # noqa: BLE001 - the boundary: whatever a handler raises is its job's end
                ending = self._ending(queue, job, context, error)
        return self._outcome(job, ending, time.perf_counter() - began, context.stages, recorded=context.committed)

    async def run_on_loop(self, job: LeasedJob, handler: AsyncHandler, context: LoopContext) -> Outcome:
        """Await the handler. As `run`, and a cancellation by the worker, or at the queue's timeout, is an end by its reason."""
        queue = self._queues[job.queue]
        began = time.perf_counter()
        with _InHand(job):
            try:
                async with asyncio.timeout(queue.timeout) as limit:
                    returned: object = await handler(job, context)  # type: ignore[func-returns-value]
                if returned is not None:
                    raise_returned(returned)
                ending = _COMPLETED
            except asyncio.CancelledError as error:
                ending = self._ending(queue, job, context, context.why_cancelled() or error)
            except TimeoutError as error:
                meant: BaseException = error
                if limit.expired():
                    meant = TimedOut(f"the handler took longer than the queue's timeout of {queue.timeout:g} s")
                ending = self._ending(queue, job, context, meant)
            except BaseException as error:  # noqa: BLE001 - the same boundary
                ending = self._ending(queue, job, context, error)
        return self._outcome(job, ending, time.perf_counter() - began, context.stages, recorded=context.committed)

    def give_up(self, job: LeasedJob, error: BaseException) -> Outcome:
        """The outcome of a job whose thread was ended by `error` outside its handler: a failed attempt."""
        return self._outcome(job, self._failed(self._queues[job.queue], job, error), 0.0, {}, recorded=False)

    def time_out(self, job: LeasedJob, took: float) -> Outcome:
        """The outcome of a job whose handler did not come back although its time is over."""
        queue = self._queues[job.queue]
        error = TimedOut(
            f"the handler took longer than the queue's timeout of {queue.timeout:g} s, and had not come back after {took:.0f} s"
        )
        return self._outcome(job, self._judge(queue, job, error), took, {}, recorded=False)

    def _outcome(
        self, job: LeasedJob, ending: _Ending, took: float, stages: dict[str, float], *, recorded: bool
    ) -> Outcome:
        verb, error, delay = ending
        if error is None:
            return Outcome(job, verb, None, 0.0, took, stages, recorded)
        try:
            message = _storable(self._redact(error))
        except BaseException as fault:  # noqa: BLE001 - to redact is a host's code, of a text that is the handler's
            # Nobody knows what the text holds: better none than a secret.
            log.error("error_withheld", error=type(fault).__name__)
            message = "the error's text is withheld: it could not be searched for secrets"
        return Outcome(job, verb, message, min(max(0.0, delay), _LONGEST_DELAY), took, stages, recorded)

    def _ending(self, queue: Queue, job: LeasedJob, context: Context, error: BaseException) -> _Ending:
        """What it means that the handler raised `error`."""
        if context.committed:
            # The effects and the outcome are in the database: a later failure cannot undo them.
            _log_failure("handler_failed_after_commit", error)
            return _COMPLETED
        try:
            ending = self._judge(queue, job, error)
        except BaseException as unreadable:  # noqa: BLE001 - the same boundary
            # What an exception says of itself is code of the handler's too.
            ending = self._failed(queue, job, error, f" (which cannot be read: {_text(unreadable)})")
        return _uncharged(ending, error, context.without_database)

    def _judge(self, queue: Queue, job: LeasedJob, error: BaseException) -> _Ending:
        match error:
            case Permanent():
                return _Ending("fail", _text(error))
            case Snooze():
                return _Ending("snooze", _text(error), in_seconds(error.seconds, "Snooze.seconds"))
            case TimedOut() if queue.on_timeout == "permanent":
                return _Ending("fail", _text(error))
            case TimedOut():
                return _Ending("retry", _text(error), self._backoff(queue, job))
            case Cancelled():
                return _Ending("cancel", _text(error))
            case Interrupted():
                return _Ending("release", _text(error))
            case LeaseLost() if job.lost:
                return _Ending("lost", _text(error))
            case LeaseLost():
                # Somebody's word only: when the lease is lost indeed, the database refuses to record this.
                return _Ending("retry", _text(error), self._backoff(queue, job))
            case Retry():
                after = self._backoff(queue, job) if error.after is None else in_seconds(error.after, "Retry.after")
                return _Ending("retry", _text(error), after)
            case _ if isinstance(error, queue.permanent):
                return self._failed(queue, job, error)._replace(verb="fail")
            case _:
                return self._failed(queue, job, error)

    def _failed(self, queue: Queue, job: LeasedJob, error: BaseException, more: str = "") -> _Ending:
        _log_failure("handler_raised", error)
        name, text = type(error).__name__, _text(error)
        if isinstance(error, InsufficientPrivilege):
            more = f"; the worker's role lacks a right: {GRANTED}, and you what is on tables of yours"
        return _Ending("retry", (f"{name}: {text}" if text else name) + more, self._backoff(queue, job))

    def _backoff(self, queue: Queue, job: LeasedJob) -> float:
        """The queue's own wait before the next attempt. The queue may have it from its host, and it may fail as a handler does."""
        try:
            return in_seconds(queue.backoff.delay(job.retry_count), "a backoff")
        except BaseException as error:  # noqa: BLE001 - so may a host's own backoff do anything
            _log_failure("backoff_failed", error)
            return _WITHOUT_BACKOFF


def _uncharged(ending: _Ending, error: BaseException, away: float) -> _Ending:
    """The ending, which costs no attempt where one that failed had waited `away` seconds for the database."""
    if ending.verb != "retry" or away <= _CHARGED_UP_TO:
        return ending
    # A wait that somebody asked for is kept: a peer that fails while the database comes and goes is not called more often.
    asked = isinstance(error, Retry) and error.after is not None
    why = f"the database was away for {away:.1f} s of this attempt, which is not charged: {ending.error}"
    return _Ending("snooze", why, ending.delay if asked else _AGAIN.delay(0))


def raise_returned(returned: object) -> None:
    """Raise what the handler returned instead of raising it, and TypeError for work that nobody would do. Ignores all else."""
    if isinstance(returned, JobError):
        raise returned
    if isinstance(returned, type) and issubclass(returned, JobError):
        raise TypeError(f"the handler returned the class {returned.__name__}: raise an instance of it")
    if inspect.isawaitable(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        raise TypeError(
            f"the handler returned a {type(returned).__name__}, which nobody runs: do the work before returning"
        )


def _text(error: BaseException) -> str:
    """What the error says of itself; it may be unable to."""
    try:
        return str(error)
    except BaseException as fault:  # noqa: BLE001 - the handler has ended: nothing that its exception does ends the thread too
        return f"its text cannot be read, that raised {type(fault).__name__}"


def _log_failure(event: str, error: BaseException) -> None:
    """Log the error with its stack where that can be done: the job's outcome comes first."""
    try:
        log.error(event, exc_info=error)
    except BaseException:  # noqa: BLE001 - to write a line calls the exception's own code
        with suppress(Exception):
            log.error(event, error=type(error).__name__)


def _storable(message: str) -> str:
    """The message in a form that a text column takes: without NUL, valid Unicode, not too long."""
    return message.replace("\0", "").encode(errors="replace").decode()[:_LONGEST_ERROR]
