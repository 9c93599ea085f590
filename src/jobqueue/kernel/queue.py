"""What a queue is to the kernel: a table, a handler, a policy; and what a job is to a handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobqueue.backoff import Backoff

if TYPE_CHECKING:
    from uuid import UUID

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.running.context import Context

JobId = Any  # uuid.UUID or int, as the queue's table has it

Handler = Callable[["Job", "Context"], None]


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that belongs to a queue and not to a job: `run(link)` about every `seconds`, in one process at a time or more.

    It must be safe to run in several processes at once and must not take long: rescue waits for it.
    """

    name: str
    seconds: float
    run: Callable[[Link], None]


@dataclass(frozen=True, slots=True)
class Queue:
    """A table that `jobqueue.adopt()` made a queue, and what to do with its jobs.

    `name` is what adopt() returned. `columns` are the table's own columns that the handler reads from `job.columns`.
    `limit` bounds this queue's jobs in flight in this process, below the worker's concurrency.
    """

    name: str
    handler: Handler
    columns: tuple[str, ...] = ()
    backoff: Backoff = field(default_factory=Backoff)
    limit: int | None = None
    chores: tuple[Chore, ...] = ()


@dataclass(slots=True, eq=False)
class Job:
    """One attempt at one row: what was claimed, and the lease it is held under.

    `attempt` counts from 1. `waited` is the time from due to claimed in seconds. `renewed_at` is in time.monotonic().
    `ended`: the handler is through with it, and its outcome is on the way.
    """

    queue: str
    id: JobId
    token: UUID
    priority: int
    retry_count: int
    max_retries: int
    crash_count: int
    waited: float
    columns: Mapping[str, Any]
    renewed_at: float
    lost: bool = False
    ended: bool = False

    @property
    def attempt(self) -> int:
        return self.retry_count + 1

    def log_fields(self) -> dict[str, object]:
        """What tells this attempt from others in the log."""
        return {"queue": self.queue, "job_id": str(self.id), "attempt": self.attempt}

    def __repr__(self) -> str:
        return f"<Job {self.queue} {self.id} attempt {self.attempt} of {self.max_retries}>"
