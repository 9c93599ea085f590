"""The keeper: rescues jobs of lost workers, measures the queues, and does their chores."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobqueue.kernel.loop import Loop
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel.link import Link
    from jobqueue.kernel.meter import Meter
    from jobqueue.kernel.queue import Queue
    from jobqueue.kernel.store import Store

log = get_logger(__name__)

# Seconds between two measurements of a queue.
_MEASURE_EVERY = 15.0


class Keeper(Loop):
    """Looks for leases that have run out at each poll, and as soon as the next one does.

    Every process keeps all queues that it serves: there is no leader, and rescuing twice is harmless.
    """

    name = "keep"

    def __init__(
        self,
        link: Link,
        meter: Meter,
        sources: list[tuple[Queue, Store]],
        *,
        lease_seconds: float,
        poll_seconds: float,
        due: Callable[[str | None], None],
        lanes: Callable[[str], tuple[list[int], list[int]]],
    ) -> None:
        super().__init__(link, meter)
        self._sources = sources
        self._lease = lease_seconds
        self._poll = poll_seconds
        self._due = due
        self._lanes = lanes
        self._measured_at = -1e9
        self._done_at: dict[tuple[str, str], float] = {}

    def turn(self) -> float:
        rest = self._poll
        for _, store in self._sources:
            rest = min(rest, self._rescue(store))
        now = time.monotonic()
        if now - self._measured_at >= _MEASURE_EVERY:
            for queue, store in self._sources:
                self._measure(queue, store)
            self._measured_at = now
        for queue, _ in self._sources:
            for chore in queue.chores:
                key = (queue.name, chore.name)
                if now - self._done_at.get(key, -1e9) >= chore.seconds:
                    self._done_at[key] = now
                    chore.run(self.link)
                rest = min(rest, max(0.0, self._done_at[key] + chore.seconds - now))
        return max(0.05, rest)

    def _rescue(self, store: Store) -> float:
        """Rescue one queue's lost jobs; returns the seconds until its next lease runs out, at most one poll."""
        name = store.description.name
        if orphans := store.lease_orphans(self.link, self._lease):
            log.info("orphans_leased", queue=name, jobs=orphans, lease_seconds=self._lease)
        while rescued := store.rescue(self.link, self._lease):
            self.meter.rescued(name, len(rescued))
            for job in rescued:
                log.warning(
                    "job_rescued",
                    queue=name,
                    job_id=str(job.id),
                    locked_by=job.locked_by,
                    outcome="failed" if job.failed else "pending",
                )
            self._due(name)
        expiry = store.next_expiry(self.link)
        return self._poll if expiry is None else min(self._poll, max(0.05, expiry + 0.05))

    def _measure(self, queue: Queue, store: Store) -> None:
        depth = store.measure(self.link, self._lanes(queue.name))
        self.meter.metrics.set_queue(
            queue.name,
            {"due": depth.due, "delayed": depth.delayed, "processing": depth.processing, "failed": depth.failed},
            max(0.0, depth.oldest_due),
        )
