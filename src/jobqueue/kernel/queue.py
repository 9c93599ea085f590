"""What a queue is to the kernel: a table, a handler, a policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobqueue.backoff import Backoff

if TYPE_CHECKING:
    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.job import Job
    from jobqueue.kernel.running.context import Context

Handler = Callable[["Job", "Context"], None]


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
    before a failed job's next attempt.
    """

    name: str
    handler: Handler
    columns: tuple[str, ...] = ()
    backoff: Backoff = field(default_factory=Backoff)
    limit: int | None = None
    chores: tuple[Chore, ...] = ()
