"""A job: what its handler may use of it, and what the worker keeps beside that.

The two are told apart by their types. A handler is given a `Job`; the worker's own code handles the same object as a
`LeasedJob`, and the type checker refuses a handler that looks for a token. One object instead of two costs a claim nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

JobId = Any  # uuid.UUID or int, as the queue's table has it


@dataclass(slots=True, eq=False, repr=False)
class Job:
    """One attempt at one row, as its handler sees it.

    `columns` are those that the Queue named. `waited` is the time from due to claimed in seconds.
    """

    queue: str
    id: JobId
    priority: int
    retry_count: int
    max_retries: int
    waited: float
    columns: Mapping[str, Any]

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self.retry_count + 1

    def log_fields(self) -> dict[str, object]:
        """What tells this attempt from others in the log."""
        return {"queue": self.queue, "job_id": str(self.id), "attempt": self.attempt}

    def __repr__(self) -> str:
        return f"<Job {self.queue} {self.id} attempt {self.attempt} of {self.max_retries}>"


@dataclass(slots=True, eq=False, repr=False)
class LeasedJob(Job):
    """The same attempt as the worker sees it, with the lease that it is held under.

    `token` is new for each claim. `until` is when its handler's time is over, in time.monotonic(), None where it has any. `position` is the job's place in its lane. `renewed_at` is in time.monotonic(). `lost`:
    somebody else has the job, or may have. `ended`: the handler is through with it, and its outcome is on the way.
    """

    token: UUID
    position: int
    crash_count: int
    renewed_at: float
    lost: bool = False
    ended: bool = False
    until: float | None = None
