"""What the kernel promises about the jobs of one queue, in memory: no database, no clock, one thing after another.

Each method says what one statement does to the jobs, and to which. What the promise leaves open is read back from the
rows: the value of a position (only that it is drawn, and in which order), and the time that `now` was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from uuid import UUID

State = Literal["pending", "processing", "completed", "failed", "cancelled"]
FINISHED: tuple[State, ...] = ("completed", "failed", "cancelled")

NOW = timedelta(0)

# The position of a job that drew one whose value has not been read back yet.
DRAWN = 0


@dataclass(slots=True, eq=False)
class Job:
    """One row. `run_after` is a time, or one from now until it is read back. `most` bounds what `retry_count` may become."""

    label: int
    key: str | None
    priority: int
    max_retries: int
    run_after: datetime | timedelta
    id: Any = None
    state: State = "pending"
    retry_count: int = 0
    crash_count: int = 0
    most: int = 0
    position: int | None = None
    rank: int | None = None  # orders those that draw their positions in one statement
    token: UUID | None = None
    worker: str | None = None
    lease: Literal["runs", "ran out"] | None = None
    error: str | None = None  # how the message begins
    changed: bool = True
    locked: bool = False  # by a transaction that is open

    def __post_init__(self) -> None:
        self.most = self.max_retries

    @property
    def suspect(self) -> bool:
        """Whether it runs alone: it lost its worker twice in a row, or once with one attempt left."""
        return self.crash_count >= 2 or (self.crash_count == 1 and self.retry_count + 1 >= self.max_retries)

    def held_by(self, token: UUID) -> bool:
        return self.state == "processing" and self.lease is not None and self.token == token

    def charge(self) -> None:
        self.retry_count += 1
        assert self.retry_count <= self.most


class Model:
    """The jobs of one queue. What runs after `horizon` is not due; what runs before it is."""

    def __init__(self, horizon: datetime) -> None:
        self.horizon = horizon
        self.jobs: list[Job] = []
        # Whether looks for a twin find none: it is locked, or not committed yet.
        self.blind = False

    def get(self, id_: Any) -> Job | None:
        return next((job for job in self.jobs if job.id == id_), None)

    def is_due(self, job: Job) -> bool:
        return job.run_after <= NOW if isinstance(job.run_after, timedelta) else job.run_after < self.horizon

    def in_state(self, *states: State) -> list[Job]:
        return [job for job in self.jobs if job.state in states]

    # Entering

    def enqueue(self, new: Job, rank: int = 0) -> bool:
        """Insert a job; returns whether it got a row: otherwise the pending one with its key took it in."""
        twin = self._twin(new)
        if twin is None:
            self._draw(new, rank)
            self.jobs.append(new)
            return True
        if new.priority > twin.priority or self._is_earlier(new.run_after, twin.run_after):
            twin.priority = max(new.priority, twin.priority)
            if self._is_earlier(new.run_after, twin.run_after):
                twin.run_after = new.run_after
            self._draw(twin, rank)
        return False

    def _is_earlier(self, one: datetime | timedelta, other: datetime | timedelta) -> bool:
        if isinstance(one, timedelta):
            return not isinstance(other, timedelta) and other >= self.horizon
        return one < self.horizon if isinstance(other, timedelta) else one < other

    def _twin(self, job: Job) -> Job | None:
        return next(iter(self.twins(job)), None)

    def twins(self, job: Job) -> list[Job]:
        """Pending jobs with its key that nobody has locked: transactions that did not see one another leave several."""
        if job.key is None or self.blind:
            return []
        return [one for one in self.in_state("pending") if one.key == job.key and one is not job and not one.locked]

    def _draw(self, job: Job, rank: int = 0) -> None:
        job.changed = True
        drawn = self.is_due(job) and not job.suspect
        job.position, job.rank = (DRAWN, rank) if drawn else (None, None)

    def _enter(self, job: Job) -> None:
        """Make a job pending that was not; if another with its key is, it ends there."""
        job.changed = True
        job.token = job.worker = job.lease = None
        if twins := self.twins(job):
            job.state, job.error = (
                "cancelled",
                f"coalesced into job {twins[0].id}, " if len(twins) == 1 else "coalesced into job ",
            )
            return
        if job.state in FINISHED:
            job.crash_count = 0
        job.state = "pending"
        self._draw(job)

    # Claiming

    def claimable(self, priorities: list[int], floors: list[int], limit: int) -> list[Job]:
        """The jobs that a claim from these floors leases, in order."""
        claimable = [job for job in self.in_state("pending") if job.position is not None and not job.locked]
        taken: list[Job] = []
        for priority, floor in zip(priorities, floors, strict=True):
            lane = [(job.position or 0, job) for job in claimable if job.priority == priority]
            taken += [job for position, job in sorted(lane, key=lambda pair: pair[0]) if position >= floor]
        return taken[:limit]

    def suspects(self) -> list[Job]:
        """Those whose turn it is to run alone: the one that has been due for longest goes first."""
        return [
            job for job in self.in_state("pending")
            if job.position is None and self.is_due(job) and job.suspect and not job.locked
        ]  # fmt: skip

    def waiting(self) -> list[Job]:
        """Whatever is due: a worker that claims and looks around comes to all of these."""
        return [job for job in self.in_state("pending") if self.is_due(job) and not job.locked]

    def lease(self, job: Job, token: UUID, worker: str) -> None:
        job.changed = True
        job.state, job.token, job.worker, job.lease = "processing", token, worker, "runs"

    def merge(self, claimed: list[Job]) -> list[Job]:
        """What follows a claim: of each key the first runs, and its twins give way, those that were claimed with it and
        those that are pending. Returns the claimed ones that run."""
        running: dict[str | None, Job] = {}
        stay = []
        for job in claimed:
            first = running.setdefault(job.key, job)
            if first is job or job.key is None:
                stay.append(job)
            else:
                self._finish(job, "cancelled", f"coalesced into job {first.id}, which was claimed first")
        for job in stay:
            for twin in self.twins(job):
                self._finish(twin, "cancelled", f"coalesced into job {job.id}, which was claimed first")
        return stay

    def promotable(self) -> list[Job]:
        """Those that have become due without a position."""
        return [
            job for job in self.in_state("pending")
            if job.position is None and self.is_due(job) and not job.suspect and not job.locked
        ]  # fmt: skip

    def promote(self) -> list[Job]:
        """Give those that have become due a position, the earliest first."""
        promoted = self.promotable()
        order = sorted({job.run_after for job in promoted if isinstance(job.run_after, datetime)})
        for job in promoted:
            self._draw(job, order.index(job.run_after) if isinstance(job.run_after, datetime) else len(order))
        return promoted

    # Outcomes of the holder: each takes jobs that are held

    def complete(self, job: Job) -> None:
        self._finish(job, "completed", None)
        job.crash_count = 0

    def fail(self, job: Job, error: str) -> None:
        job.charge()
        job.retry_count = max(job.retry_count, job.max_retries)
        job.crash_count = 0
        self._finish(job, "failed", error)

    def cancel(self, job: Job, error: str) -> None:
        self._finish(job, "cancelled", error)

    def retry(self, job: Job, delay: timedelta, error: str) -> None:
        job.charge()
        job.crash_count = 0
        if job.retry_count >= job.max_retries:
            self._finish(job, "failed", error)
        else:
            self.snooze(job, delay, error)

    def snooze(self, job: Job, delay: timedelta, error: str) -> None:
        job.run_after, job.error = delay, error
        self._enter(job)

    def release(self, job: Job) -> None:
        self._enter(job)

    def renew(self, job: Job) -> None:
        job.changed = True
        job.lease = "runs"

    def _finish(self, job: Job, state: State, error: str | None) -> None:
        """The token stays: it tells whose outcome this is."""
        job.changed = True
        job.state, job.error, job.worker, job.lease = state, error, None, None

    # Keeping

    def lost(self) -> list[Job]:
        """The jobs that a rescue takes."""
        return [job for job in self.in_state("processing") if job.lease == "ran out" and not job.locked]

    def rescue(self, job: Job) -> None:
        held = job.token is not None
        job.error = f"the worker {job.worker} died" if held else "the job was in progress without a lease"
        if held:
            exhausted = job.retry_count + 1 >= job.max_retries
            job.charge()
            job.crash_count += 1
            if exhausted:
                self._finish(job, "failed", job.error)
                job.token = None
                return
        job.run_after = NOW
        self._enter(job)

    def lease_orphans(self) -> list[Job]:
        orphans = [job for job in self.in_state("processing") if job.lease is None and not job.locked]
        for job in orphans:
            self.renew(job)
        return orphans

    # The host and its operators, by plain SQL

    def set_state(self, job: Job, state: State) -> None:
        if job.state == state:
            return
        if state == "pending":
            job.most = max(job.most, job.retry_count + 1)
            self._enter(job)
            return
        job.changed = True
        if job.state == "processing":
            job.token = job.worker = job.lease = None
        job.state = state

    def set_max_retries(self, job: Job, number: int) -> None:
        job.changed = True
        job.max_retries, job.most = number, max(job.most, number)
        if job.state == "failed" and number > job.retry_count:
            job.run_after = NOW
            self._enter(job)

    def set_priority(self, job: Job, priority: int) -> None:
        if job.priority != priority:
            job.priority, job.changed = priority, True
            if job.state == "pending":
                self._draw(job)

    def set_run_after(self, job: Job, when: datetime | timedelta) -> None:
        if job.run_after != when:
            job.run_after, job.changed = when, True
            if job.state == "pending":
                self._draw(job)

    def delete(self, job: Job) -> None:
        self.jobs.remove(job)

    def pass_time(self, job: Job, span: timedelta) -> None:
        """The job's time comes nearer by itself: nobody changes it, nothing is drawn."""
        assert isinstance(job.run_after, datetime)
        job.run_after, job.changed = job.run_after - span, True

    def expire(self, job: Job) -> None:
        job.lease, job.changed = "ran out", True
