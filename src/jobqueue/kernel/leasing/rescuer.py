"""The rescuer: takes jobs back from lost workers, measures the queues, and does their chores."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobqueue.kernel.database.link import LOST
from jobqueue.kernel.database.lookback import Lookback
from jobqueue.kernel.database.rows import WorkerPresence
from jobqueue.kernel.database.statements import statement
from jobqueue.kernel.leasing.presence import BEAT_EVERY, GONE_AFTER, LOCK_CLASS, take_lock
from jobqueue.kernel.leasing.witness import Witness
from jobqueue.kernel.loop import Loop
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.rows import LaneFloors
    from jobqueue.kernel.database.store import Store
    from jobqueue.kernel.meter import Meter
    from jobqueue.kernel.queue import Chore, Queue

log = get_logger(__name__)

# Seconds between two measurements of a queue.
_MEASURE_EVERY = 15.0

# Seconds between two looks of a process that has a witness's seat. The others look at each beat.
_LOOK_EVERY = 0.3

# Seconds that may pass beside those between two looks. A worker's connection may be cut after two seconds without an answer: a
# witness that was without one for as long as that, too, knows nothing of its death.
_LATE = 1.5

# Seats of witnesses in one database. Two, because one may stand still.
_SEATS = (-1, -2)


class Rescuer(Loop):
    """Looks for leases that have run out at each poll and four times in a lease's length, and for gone workers.

    Every process does so for all queues that it serves: there is no leader, and to rescue twice is harmless. Two of them look
    for gone workers several times a second (see witness.py), the others every few seconds.
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
        self._witness = Witness()
        self._session = 0
        self._seated = False
        self._look_at = -1e9
        self._watched_at = -1e9
        self._server: float | None = None
        self._present_at = time.monotonic()
        self._waits_until: float | None = None

    def lost(self) -> None:
        for lookback in self._leases.values():
            lookback.reset()

    def turn(self) -> float:
        if not self._current():
            # After the database was away our own leases look as lost as everybody's: the heartbeat goes first.
            return 0.1
        if self._lease > GONE_AFTER and time.monotonic() >= self._look_at:
            # Leases that are shorter run out by themselves as soon.
            self._watch_workers()
        now = time.monotonic()
        if now >= self._rescue_at:
            if not self._must_wait(now):
                for _, store in self._sources:
                    self._rescue(store)
            self._rescue_at = now + min(self._poll, self._lease / 4)
        rest = min(self._poll, self._rescue_at - now)
        if self._lease > GONE_AFTER:
            rest = min(rest, self._look_at - now)
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

    def _must_wait(self, now: float) -> bool:
        """Whether holders get time to come back: without a database leases ran out that nobody could renew.

        They get one lease. Where each look comes late, for want of a processor, there is one look a lease.
        """
        away, self._present_at = now - self._present_at, now
        if away > self._lease or (away > self._lease / 2 and self._waits_until is None):
            self._waits_until = now + self._lease
        if self._waits_until is not None and now < self._waits_until:
            return True
        self._waits_until = None
        return False

    def _do(self, queue: Queue, chore: Chore) -> None:
        try:
            chore.run(self.link)
        except LOST:
            raise
        except Exception as error:
            # A chore that fails each time must not hold up the others, or the rescue.
            self.meter.database_error(error)
            log.exception("chore_failed", queue=queue.name, chore=chore.name)

    def _watch_workers(self) -> None:
        """Look whether workers are gone, and rescue what those held."""
        connection = self.link.connection()
        if self._session != self.link.opened:
            self._witness.reset()
            self._seated, self._session = False, self.link.opened
        if not self._seated and connection.prepare_threshold is not None:
            self._seated = any(take_lock(self.link, seat) for seat in _SEATS)
        rows = [WorkerPresence(*row) for row in self.link.fetch(statement("watch_workers"), {"lock": LOCK_CLASS})]
        now, every = time.monotonic(), _LOOK_EVERY if self._seated else BEAT_EVERY
        servers = {row.server for row in rows}
        if now - self._watched_at > every + _LATE or servers != {self._server}:
            # What it saw before is no longer one uninterrupted sight; or a pooler led it to another server without a word.
            self._witness.reset()
        self._watched_at, self._server = now, max(servers, default=None)
        self._look_at = now + every
        gone = sorted(self._witness.look(rows, now))
        if not gone:
            return
        expired, names = 0, [worker.name for worker in gone]
        for _, store in self._sources:
            while count := store.expire(self.link, gone):
                expired += count
            self._rescue(store, names)
        if expired:
            log.warning("workers_gone", workers=names, jobs=expired)

    def _rescue(self, store: Store, gone: Sequence[str] = ()) -> None:
        """Rescue one queue's lost jobs. Workers named in `gone` do not come back."""
        name = store.description.name
        if orphans := store.lease_orphans(self.link, self._lease):
            log.info("orphans_leased", queue=name, jobs=orphans, lease_seconds=self._lease)
        back = self._leases[name].seconds()
        while rescued := store.rescue(self.link, self._lease, back, gone):
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
