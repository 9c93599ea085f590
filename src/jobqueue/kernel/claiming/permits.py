"""What the limits of one queue over all processes let this process claim, and when it may ask again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobqueue.kernel.database.lookback import Lookback
from jobqueue.kernel.database.rows import Limits
from jobqueue.kernel.database.statements import statement

if TYPE_CHECKING:
    from uuid import UUID

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.rows import LaneFloors
    from jobqueue.kernel.database.store import Store
    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.queue import Queue

_UNLIMITED = Limits()


def limits_of(queue: Queue) -> Limits:
    """What this process states of `queue`."""
    if queue.rate is None:
        return Limits(queue.global_concurrency)
    return Limits(queue.global_concurrency, queue.rate.interval, queue.rate.burst)


def state_limits(link: Link, queue: str, worker: str, limits: Limits) -> list[str]:
    """State a process' limits for all, and forget those of processes that are gone; returns who states others."""
    params = {"queue": queue, "worker": worker, **limits._asdict()}
    return list(link.fetch(statement("state_limits"), params)[0][0])


class Permits:
    """Claims for one queue. While no process limits the queue these are the plain claims, of which the database gives none as
    soon as somebody does: the survey then says `limited`, and from there on each claim asks for permits.

    `short`: the last claim gave all that was permitted, and less than was asked for.
    """

    def __init__(self, queue: Queue, store: Store, lease_seconds: float) -> None:
        self._own = limits_of(queue)
        self._store = store
        self._lease = lease_seconds
        # For one lease after a restart of the database leases that have run out are still their holders'.
        self._leases = Lookback(60.0 + lease_seconds)
        self._until = 0.0
        self._freed = 0
        self.short = False
        self.limited = self._own != _UNLIMITED

    @property
    def until(self) -> float:
        """When the next claim may bring something, in time.monotonic()."""
        return self._until

    def surveyed(self, *, limited: bool) -> None:
        """A survey found whether anybody limits the queue."""
        self.limited = limited or self._own != _UNLIMITED

    def freed(self) -> bool:
        """Outcomes of the queue were recorded: ask again at once. Returns whether that makes a difference. For any thread."""
        self._freed += 1
        waited, self._until = self._until > time.monotonic(), 0.0
        return waited

    def lost(self) -> None:
        """The connection was lost: after a reconnection the server may be another one."""
        self._leases.reset()
        self._until = 0.0

    def claim(self, link: Link, lanes: LaneFloors, limit: int, token: UUID, worker: str) -> list[LeasedJob]:
        """Lease up to `limit` due jobs, as many as are permitted."""
        self.short = False
        if not self.limited:
            return self._store.claim(link, lanes, limit, token, worker, self._lease)
        return self._ask(link, lanes, limit, token, worker)

    def claim_suspect(self, link: Link, token: UUID, worker: str) -> list[LeasedJob]:
        """Lease one suspect, if one is due and permitted."""
        if not self.limited:
            return self._store.claim_suspect(link, token, worker, self._lease)
        return self._ask(link, None, 1, token, worker)

    def _ask(self, link: Link, lanes: LaneFloors | None, limit: int, token: UUID, worker: str) -> list[LeasedJob]:
        back = self._leases.seconds()
        freed = self._freed
        jobs, permit = self._store.claim_limited(link, lanes, limit, token, worker, self._lease, self._own, back)
        if not permit.lagging:
            self._leases.clean()
        self.short = permit.jobs <= len(jobs) < limit
        # What was freed while the claim was under way it may not have seen.
        if permit.again is not None and len(jobs) >= permit.jobs and freed == self._freed:
            self._until = time.monotonic() + permit.again
        return jobs
