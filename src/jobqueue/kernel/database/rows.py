"""What the kernel's statements take and return, with names for the columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from jobqueue.kernel.job import JobId


KeepAttempts = Literal["all", "failed"]


class LaneFloors(NamedTuple):
    """Lanes by priority, highest first, and the position from which each is read: parallel lists."""

    priorities: list[int]
    floors: list[int]


class LaneGaps(NamedTuple):
    """Open intervals of priorities that hold no known lane, highest first: parallel lists of their ends."""

    lows: list[int]
    highs: list[int]


class GoneWorker(NamedTuple):
    """A worker that is dead for certain, and the number of the presence that it gave up."""

    name: str
    presence: int


class WorkerPresence(NamedTuple):
    """A worker and the number of its presence. `fenced_after` and `silent`, the time since its last beat, are in seconds.

    `fenced_after` is None for a worker of a version before. `held` says whether somebody holds the presence's lock. `server` is
    when the server was started that said so.
    """

    name: str
    presence: int
    fenced_after: float | None
    silent: float
    held: bool
    server: float


@dataclass(frozen=True, slots=True)
class Survey:
    """What a claim from the floors would not see.

    `heads` has the first pending position of each lane surveyed, None where there is none. `found` has a priority in each
    gap that holds a due job. `next_delayed` is in seconds from now, None when nothing is delayed. `oldest_running` is a
    transaction's number, `last_position` the last position drawn, `server` when the server was started, which tells one from another.
    `limited`: a process stated limits for the queue.
    """

    heads: list[int | None]
    found: list[int]
    next_delayed: float | None
    suspects: bool
    oldest_running: int
    last_position: int
    server: float
    paused: bool
    limited: bool


class Limits(NamedTuple):
    """What a process states of a queue over all processes; None where it states nothing.

    `spacing` are nanoseconds from one job to the next, `burst` jobs may start together.
    """

    concurrency: int | None = None
    spacing: int | None = None
    burst: int | None = None


class Retries(NamedTuple):
    """How many attempts a job has that says nothing: the table's default, and what the queue puts in its place."""

    default: int
    ours: int


class Permit(NamedTuple):
    """What a queue's limits said to a claim: it might lease so many `jobs`.

    `again`: in how many seconds it is worth to claim again; None at once. `lagging`: some leases that count have run out.
    """

    jobs: int
    again: float | None
    lagging: bool


@dataclass(frozen=True, slots=True)
class Depth:
    """Jobs by state, each counted to COUNT_CAP and no further, and the age in seconds of the oldest that is due."""

    due: int
    delayed: int
    processing: int
    failed: int
    oldest_due: float


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job taken away from a worker that stopped renewing; `failed` when no attempt is left."""

    id: JobId
    locked_by: str
    failed: bool
