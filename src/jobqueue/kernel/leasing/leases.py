"""The leases that this process holds, and the rule that stops a holder before somebody else may take over."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from jobqueue.errors import Interrupted, LeaseLost
from jobqueue.kernel.leasing.presence import FENCED_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jobqueue.kernel.job import JobId, LeasedJob

# Nobody acts on a lease that was not renewed for this part of its length. The rest is for steps that cannot be stopped half-way:
# a request under way, a transaction that is committing.
_ACTED_ON = 0.75

LOOK_EVERY: Final = 0.25
"""Seconds between two looks at a lease whose renewal gets no answer."""

LOST_LEASE: Final = "the lease was lost: somebody else has the job, or it was cancelled"

STOPPING: Final = "the worker is shutting down"


class Leases:
    """The jobs that this process holds, each with the time of its last successful renewal.

    All times are time.monotonic(). A lease is believed to run from the moment before the claim or renewal was sent.
    `on_lost(job)` is called when a lease is known to be lost, in whatever thread learns of it.
    """

    def __init__(self, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self.on_lost: Callable[[LeasedJob], None] = lambda _job: None
        self._held: dict[tuple[str, JobId], LeasedJob] = {}
        self._changed = threading.Condition()
        self._seen_at: float | None = None

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, jobs: Iterable[LeasedJob]) -> None:
        for job in jobs:
            # This very process claimed the job again: whoever still works under the earlier lease has lost it.
            earlier = self._held.get((job.queue, job.id))
            if earlier is not None:
                earlier.lost = True
                self.on_lost(earlier)
            self._held[job.queue, job.id] = job

    def drop(self, jobs: Iterable[LeasedJob]) -> None:
        for job in jobs:
            key = (job.queue, job.id)
            if self._held.get(key) is job:
                del self._held[key]

    def holds(self, job: LeasedJob) -> bool:
        """Whether this process holds the job, under the same token."""
        held = self._held.get((job.queue, job.id))
        return held is not None and held.token == job.token

    def older_than(self, seconds: float) -> dict[str, list[LeasedJob]]:
        """Jobs that were renewed `seconds` ago or earlier, by queue."""
        before = time.monotonic() - seconds
        by_queue: dict[str, list[LeasedJob]] = {}
        for job in list(self._held.values()):
            if job.renewed_at <= before and not job.lost:
                by_queue.setdefault(job.queue, []).append(job)
        return by_queue

    def renewed(self, jobs: Iterable[LeasedJob], still_held: Mapping[JobId, bool], sent_at: float) -> list[LeasedJob]:
        """Take in a renewal's answer (see Store.renew); returns the jobs whose leases are lost."""
        lost = []
        with self._changed:
            for job in jobs:
                if still_held.get(job.id):
                    job.renewed_at = sent_at
                elif job.id not in still_held and self._held.get((job.queue, job.id)) is job:
                    job.lost = True
                    lost.append(job)
            self._changed.notify_all()
        for job in lost:
            self.on_lost(job)
        return lost

    def seen(self, sent_at: float, *, present: bool) -> None:
        """The database answered what was sent at `sent_at`. Unless this process is `present`, nobody can take it for gone."""
        with self._changed:
            self._seen_at = sent_at if present else None
            self._changed.notify_all()

    def is_fresh(self, job: LeasedJob) -> bool:
        """Whether the job's lease may be acted on now."""
        now, seen_at = time.monotonic(), self._seen_at
        if seen_at is not None and now - seen_at >= FENCED_AFTER:
            return False
        return now - job.renewed_at < self.lease_seconds * _ACTED_ON

    def guard(self, job: LeasedJob, interrupted: threading.Event) -> float:
        """Return when `job` may be acted on. Waits while renewals get no answer: nobody may touch the world meanwhile.

        Returns the seconds that it waited. Raises LeaseLost when somebody else has the job, Interrupted when the worker is
        shutting down.
        """
        if self.look(job, interrupted):
            return 0.0
        began = time.monotonic()
        while not self.look(job, interrupted):
            with self._changed:
                self._changed.wait(LOOK_EVERY)
        return time.monotonic() - began

    def look(self, job: LeasedJob, interrupted: threading.Event) -> bool:
        """Whether `job` may be acted on now; if not, ask again in LOOK_EVERY seconds. Raises as `guard` does."""
        if interrupted.is_set():
            raise Interrupted(STOPPING)
        if job.lost:
            raise LeaseLost(LOST_LEASE)
        return self.is_fresh(job)
