"""What a queue is to the kernel: a table, a handler, a policy."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from jobqueue.backoff import Backoff
from jobqueue.errors import ConfigurationError, JobError
from jobqueue.kernel.rate import Rate

if TYPE_CHECKING:
    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.rows import KeepAttempts
    from jobqueue.kernel.job import Job
    from jobqueue.kernel.running.context import Context

Handler = Callable[["Job", "Context"], None]

AsyncHandler = Callable[["Job", "Context"], Coroutine[Any, Any, None]]
"""Is awaited on the event loop, and takes none of the worker's threads."""

Route = Callable[["Job"], AsyncHandler | None]

LOOP_LIMIT: Final = 1_000
"""How many jobs of a queue that has an async handler are in flight in one process, unless the queue says another number."""

# The largest number that every host's column max_retries takes.
_MOST_RETRIES = 32_767


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that belongs to a queue and not to a job: every process that serves the queue calls `run(link)` about every `seconds`.

    It must be safe to run in several processes at once and must not take long: rescue waits for it.
    """

    name: str
    seconds: float
    run: Callable[[Link], None]


@dataclass(frozen=True, slots=True)
class Queue:
    """A table that `jobqueue.adopt()` made a queue, and what to do with its jobs.

    `name` is what adopt() returned. `columns` are the table's own columns that the handler reads from `job.columns`.
    `limit` bounds this queue's jobs in flight in this process, below the worker's concurrency. `backoff` gives the seconds
    before a failed job's next attempt. `keep_attempts` says which attempts are kept in `jobqueue.attempts`: "failed" means those
    that did not complete. `check_types` is given the types of the table's columns by name, as PostgreSQL calls them (`int4`,
    `_text`), before the worker starts, and says in sentences which of them its handler cannot use.

    `global_concurrency` bounds the queue's leased jobs, and `rate` how fast they start, over all processes; of what living
    processes state the strictest holds. A handler that takes longer than `timeout` seconds is ended at its next
    checkpoint, or given up if it comes to none: the attempt has failed, or with `on_timeout="permanent"` the job. `retries` replaces the table's default of max_retries; a row that says another number
    keeps it. An exception of a class in `permanent` ends its job as Permanent does.

    A handler that is an `async def` runs on one event loop, beside the worker's concurrency: up to `limit` jobs at once, 1,000
    unless it says otherwise. `on_loop` gives the jobs that an async handler does in a queue where others need a thread.

    `handler` is given every job of the table. In `jobs`, the queue that many programs share, these are jobs of all kinds:
    `jobqueue.kinds.Kinds` gives handlers their own kinds there.

    Raises ConfigurationError when the handler is none that a thread can call, or another value cannot be meant.
    """

    name: str
    handler: Handler | AsyncHandler
    columns: tuple[str, ...] = ()
    backoff: Backoff = field(default_factory=Backoff)
    limit: int | None = None
    chores: tuple[Chore, ...] = ()
    keep_attempts: KeepAttempts = "failed"
    global_concurrency: int | None = None
    rate: Rate | None = None
    timeout: float | None = None
    on_timeout: Literal["retry", "permanent"] = "retry"
    retries: int | None = None
    permanent: tuple[type[BaseException], ...] = ()
    on_loop: Route | None = None
    check_types: Callable[[Mapping[str, str]], list[str]] | None = None

    def __post_init__(self) -> None:
        problems = []
        columns: object = self.columns
        if reason := unfit(self.handler):
            problems.append(f"the queue {self.name} cannot use its handler: {reason}")
        if isinstance(columns, str):
            problems.append(f"the queue {self.name} takes columns as a tuple of names: columns=({columns!r},)")
        if self.limit is not None and self.limit < 1:
            problems.append(f"the queue {self.name} has a limit of {self.limit}: at least 1 job must be able to run")
        if self.keep_attempts not in ("all", "failed"):
            problems.append(
                f"the queue {self.name} keeps {self.keep_attempts!r} attempts: it must be 'all' or 'failed'"
            )
        problems += self._unlimited()
        if problems:
            raise ConfigurationError(problems)

    def _unlimited(self) -> list[str]:
        """What is wrong with the queue's limits, a line each."""
        problems = []
        rate: object = self.rate
        if self.global_concurrency is not None and self.global_concurrency < 1:
            problems.append(
                f"has a global_concurrency of {self.global_concurrency}: at least 1 job must be able to run"
            )
        if not isinstance(rate, Rate | None):
            problems.append(f"takes a Rate as its rate: Rate.parse({rate!r})")
        # Written so that it holds for NaN too.
        if self.timeout is not None and not 0 < self.timeout <= threading.TIMEOUT_MAX:
            problems.append(f"has a timeout of {self.timeout} s: it must be above 0, or None")
        if self.on_timeout not in ("retry", "permanent"):
            problems.append(f"has on_timeout={self.on_timeout!r}: it must be 'retry' or 'permanent'")
        if self.retries is not None and not 1 <= self.retries <= _MOST_RETRIES:
            problems.append(f"has retries of {self.retries}: from 1, the only attempt, to {_MOST_RETRIES:,}")
        classes: object = self.permanent
        if not isinstance(classes, tuple):
            problems.append("takes permanent as a tuple of exception classes: permanent=(ValueError,)")
        else:
            problems += [
                f"cannot take {error!r} as permanent: it is no class of exceptions, or one of jobqueue's own verdicts"
                for error in classes
                if not (isinstance(error, type) and issubclass(error, BaseException)) or issubclass(error, JobError)
            ]
        return [f"the queue {self.name} {problem}" for problem in problems]


def called_name(handler: object) -> str:
    """What a message calls a handler or a middleware: its name, or that of its type."""
    return str(getattr(handler, "__qualname__", type(handler).__qualname__))


def _unwrapped(handler: object) -> object:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler


def unfit(handler: object) -> str | None:
    """Why `handler` cannot do jobs, or None. A handler is called in a thread or awaited; what it yields nobody runs through."""
    handler = _unwrapped(handler)
    name = called_name(handler)
    if not callable(handler):
        return f"it is of the type {name}, which cannot be called"
    if isinstance(handler, type):
        return f"{name} is a class, and to make one does no job; give an instance, or a function"
    for form in (handler, handler.__call__):
        if inspect.isgeneratorfunction(form) or inspect.isasyncgenfunction(form):
            return f"{name} is a generator (it has a yield), whose body would never run; do the work and return"
    return None


def is_async(handler: object) -> bool:
    """Whether `handler` is to be awaited: an `async def`, or what calls one."""
    handler = _unwrapped(handler)
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def route_of(queue: Queue) -> Route | None:
    """What gives each of the queue's jobs its async handler, or None where none of them has one."""
    handler = queue.handler
    return (lambda _job: handler) if is_async(handler) else queue.on_loop  # type: ignore[return-value,unused-ignore]
