"""The kinds of work that this process can do for the queue `jobs`, each with its handler.

This registry is the one switch: the process works on the kinds in it and ticks their schedules, and leaves all others alone.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import psycopg
from prometheus_client import Counter

from jobqueue.database_absence import is_away
from jobqueue.errors import ConfigurationError, Snooze
from jobqueue.kernel import Context, Handler, Job, Queue
from jobqueue.kernel.queue import LOOP_LIMIT, AsyncHandler, is_async, unfit
from jobqueue.observe.logging import get_logger
from jobqueue.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = get_logger(__name__)

QUEUE: Final = "jobs"

COLUMNS: Final = ("kind", "payload", "schedule", "tick_at", "tick_slot", "tick_until", "created_at")
"""What a handler finds in `job.columns`. `payload` is the parsed JSON; those of a tick are None in every other job."""

UNSERVED_SECONDS: Final = 60.0
"""Seconds for which a job is put off at most whose kind is not served here. A new one is for a second, so that another process has
it soon, and then for as long as it has existed."""

# Seconds between two lines of the log about one kind.
_TOLD_EVERY: Final = 60.0

# Seconds for which a job is put off that found no database.
_AWAY_SECONDS = 10.0

KindHandler = Handler | AsyncHandler
"""Does one job. Returning completes it; an exception decides otherwise, as for any queue."""


def heartbeat(_job: Job, context: Context) -> None:
    """The handler of the kind `heartbeat`. It does nothing: that it ran shows that a tick becomes a job and the job an outcome."""
    context.checkpoint()


def put_off_while_away(handler: Handler) -> Handler:
    """The handler, for one that has a connection of its own: its job is put off, uncharged, when the database is away."""

    def handle(job: Job, context: Context) -> None:
        try:
            handler(job, context)
        except psycopg.Error as error:
            if not is_away(error):
                raise
            raise Snooze(f"the database was away: {str(error).strip()}", _AWAY_SECONDS) from error

    return handle


class Kinds:
    """The kinds and their handlers. Fill it before the worker starts. `metrics` are those of the worker."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        metrics = metrics or Metrics()
        self._handlers: dict[str, KindHandler] = {}
        self._conditions: dict[str, Callable[[Mapping[str, Any]], bool]] = {}
        self._telling = threading.Lock()
        self._untold: dict[str, int] = {}
        self._told_at: dict[str, float] = {}
        self._unserved = Counter(
            "jobqueue_jobs_unserved", "Jobs put off because their kind is not served here", registry=metrics.registry
        )

    def register(
        self, kind: str, handler: KindHandler, *, when: Callable[[Mapping[str, Any]], bool] = lambda _payload: True
    ) -> None:
        """Have `handler` do jobs of `kind`; `when(payload)` tells which schedules of that kind can run here.

        Raises ValueError for a kind that is taken, ConfigurationError for a handler that cannot do jobs.
        """
        if reason := unfit(handler):
            raise ConfigurationError([f"the kind {kind} cannot use its handler: {reason}"])
        if kind in self._handlers:
            raise ValueError(f"the kind {kind} is registered already")
        self._handlers[kind] = handler
        self._conditions[kind] = when

    def serves(self, kind: str, payload: Mapping[str, Any]) -> bool:
        """Whether a schedule of this kind and payload can run here."""
        condition = self._conditions.get(kind)
        return condition is not None and condition(payload)

    def queue(self) -> Queue:
        """The queue to give to a worker."""
        awaited: dict[str, Any] = {kind: handler for kind, handler in self._handlers.items() if is_async(handler)}

        def find_awaited(job: Job) -> AsyncHandler | None:
            return awaited.get(str(job.columns["kind"]))

        return Queue(
            QUEUE,
            self.handle,
            columns=COLUMNS,
            on_loop=find_awaited if awaited else None,
            limit=LOOP_LIMIT if awaited else None,
        )

    def handle(self, job: Job, context: Context) -> Any:
        """Do one job. One of a kind that is not registered is put off without a charge: another process may know it.

        Raises Snooze then, and else what the handler raises; returns what it returns, which may be a verdict.
        """
        kind = str(job.columns["kind"])
        handler = self._handlers.get(kind)
        if handler is None:
            self._unserved.inc()
            self._tell(kind)
            raise Snooze(
                f"no process has been found that serves the kind {kind!r}; this one does not",
                min(max(1.0, _age(job.columns["created_at"])), UNSERVED_SECONDS),
            )
        return handler(job, context)

    def _tell(self, kind: str) -> None:
        """Log that a job of `kind` was put off; `jobs` are those since the last line about it, which is a minute ago at least."""
        now = time.monotonic()
        with self._telling:
            self._untold[kind] = jobs = self._untold.get(kind, 0) + 1
            if now - self._told_at.get(kind, -_TOLD_EVERY) < _TOLD_EVERY:
                return
            self._told_at[kind], self._untold[kind] = now, 0
        log.warning("job_kind_unserved", kind=kind, jobs=jobs)


def _age(created_at: Any) -> float:
    """For how many seconds a job has existed. A host's column may say nothing, or nothing of a time zone."""
    if not isinstance(created_at, datetime):
        return UNSERVED_SECONDS
    return (datetime.now(created_at.tzinfo) - created_at).total_seconds()
