"""The rescuer: takes jobs back from lost workers, measures the queues, and does their chores."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobqueue.kernel.database.link import LOST
from jobqueue.kernel.database.lookback import Lookback
from jobqueue.kernel.database.rows import GoneWorker
from jobqueue.kernel.database.statements import statement
from jobqueue.kernel.leasing.presence import BEAT_EVERY, GONE_AFTER, LOCK_CLASS
from jobqueue.kernel.loop import Loop
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.rows import LaneFloors
    from jobqueue.kernel.database.store import Store
    from jobqueue.kernel.meter import Meter
    from jobqueue.kernel.queue import Chore, Queue

log = get_logger(__name__)

# Seconds between two measurements of a queue.
_MEASURE_EVERY = 15.0


class Rescuer(Loop):
    """Looks for leases that have run out at each poll and four times in a lease's length, and for gone workers every few seconds.

    Every process does so for all queues that it serves: there is no leader, and to rescue twice is harmless.
    `notify(queue)` is called when jobs became pending again, `lanes(queue)` gives the lanes with their safe floors, and
    `current()` says whether this process renewed its own leases lately.
    """

    name = "rescue"

    def __init__(
        self,
        link: Link,
        meter: Meter,
        sources: list[tuple[Queue, Store]],
        *,
        lease_seconds: float,
        poll_seconds: float,
        notify: Callable[[str | None], None],
        lanes: Callable[[str], LaneFloors],
        current: Callable[[], bool],
    ) -> None:
        super().__init__(link, meter)
        self._sources = sources
        self._lease = lease_seconds
        self._poll = poll_seconds
        self._notify = notify
        self._lanes = lanes
        self._current = current
        self._measured_at = -1e9
        self._rescue_at = -1e9
        # For one lease after a restart of the database nobody is rescued, so that later looks reach back that much further.
        self._leases = {queue.name: Lookback(60.0 + lease_seconds) for queue, _ in sources}
        self._done_at: dict[tuple[str, str], float] = {}
        self._expired: set[GoneWorker] = set()

    def lost(self) -> None:
        for lookback in self._leases.values():
            lookback.reset()

    def turn(self) -> float:
        if not self._current():
            # After the database was away our own leases look as lost as everybody's: the heartbeat goes first.
            return 0.1
        found = self._expire_gone()
        now = time.monotonic()
        if found or now >= self._rescue_at:
            for _, store in self._sources:
                self._rescue(store)
            self._rescue_at = now + min(self._poll, self._lease / 4)
        rest = min(BEAT_EVERY, self._poll, self._rescue_at - now)
        if now - self._measured_at >= _MEASURE_EVERY:
            for queue, store in self._sources:
                self._measure(queue, store)
            self._measured_at = now
        for queue, _ in self._sources:
            for chore in queue.chores:
                key = (queue.name, chore.name)
                if now - self._done_at.get(key, -1e9) >= chore.seconds:
                    self._done_at[key] = now
                    self._do(queue, chore)
                rest = min(rest, max(0.0, self._done_at[key] + chore.seconds - now))
        return max(0.05, rest)

    def _do(self, queue: Queue, chore: Chore) -> None:
        try:
            chore.run(self.link)
        except LOST:
            raise
        except Exception as error:
            # A chore that fails each time must not hold up the others, or the rescue.
            self.meter.database_error(error)
            log.exception("chore_failed", queue=queue.name, chore=chore.name)

    def _expire_gone(self) -> bool:
        """End the leases of workers that were killed; returns whether there were any."""
        if self._lease <= GONE_AFTER:
            # The leases themselves run out as soon.
            return False
        silence = {"silence": GONE_AFTER, "lock": LOCK_CLASS, "lease": self._lease}
        gone = {GoneWorker(*row) for row in self.link.fetch(statement("find_gone"), silence)} - self._expired
        if not gone:
            return False
        expired = 0
        for _, store in self._sources:
            while count := store.expire(self.link, [worker.name for worker in gone]):
                expired += count
        self._expired |= gone
        if expired:
            log.warning("workers_gone", workers=sorted(worker.name for worker in gone), jobs=expired)
        return expired > 0

    def _rescue(self, store: Store) -> None:
        """Rescue one queue's lost jobs."""
        name = store.description.name
        if orphans := store.lease_orphans(self.link, self._lease):
            log.info("orphans_leased", queue=name, jobs=orphans, lease_seconds=self._lease)
        back = self._leases[name].seconds()
        while rescued := store.rescue(self.link, self._lease, back):
            self.meter.rescued(name, len(rescued))
            for job in rescued:
                log.warning(
                    "job_rescued",
                    queue=name,
                    job_id=str(job.id),
                    locked_by=job.locked_by,
                    outcome="failed" if job.failed else "pending",
                )
            self._notify(name)
        self._leases[name].clean()

    def _measure(self, queue: Queue, store: Store) -> None:
        depth = store.measure(self.link, self._lanes(queue.name))
        states = {"pending": depth.due + depth.delayed, "processing": depth.processing, "failed": depth.failed}
        self.meter.metrics.set_queue(queue.name, states, max(0.0, depth.oldest_due))
        self.meter.metrics.queue_due.labels(queue.name).set(depth.due)
