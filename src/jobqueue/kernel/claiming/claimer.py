"""One claimer a process: turns free slots into leased jobs, in batches.

A little over 300 lines, and left whole: each part of a turn depends on what the last claim of each queue found.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from jobqueue.kernel.claiming.capacity import WORTH_HALVING, Capacity
from jobqueue.kernel.claiming.lanes import Lanes
from jobqueue.kernel.claiming.lost_claims import LostClaims
from jobqueue.kernel.claiming.permits import Permits
from jobqueue.kernel.database.link import LOST
from jobqueue.kernel.database.lookback import Lookback
from jobqueue.kernel.listener import ListenLoop
from jobqueue.kernel.queue import LOOP_LIMIT, is_async
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.rows import LaneFloors
    from jobqueue.kernel.database.store import Store
    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.leasing.leases import Leases
    from jobqueue.kernel.meter import Meter
    from jobqueue.kernel.queue import Queue
    from jobqueue.kernel.running.completer import Completer
    from jobqueue.kernel.running.places import Places
    from jobqueue.kernel.running.thread_pool import Pool

log = get_logger(__name__)

# Seconds between two surveys of a busy queue, which look for new lanes, delayed jobs and stragglers.
_SURVEY_EVERY = 1.0

# Seconds after which floors are forgotten and found again: one claim from the very beginning costs little.
_FORGET_EVERY = 600.0

# Seconds for which the claimer yields the interpreter when nothing more is due: the job's thread needs it to begin.
_YIELD_SECONDS = 0.0005


@dataclass(slots=True)
class _Source:
    """One queue, as this claimer sees it. Times are time.monotonic().

    `asked`: somebody notified us since the last claim. `drained`: the last claim and survey found no more. `due`: the last survey
    found something due.
    """

    queue: Queue
    store: Store
    permits: Permits
    lanes: Lanes = field(default_factory=Lanes)
    drained: bool = False
    asked: bool = True
    look_at: float = 0.0
    surveyed_at: float = 0.0
    forgotten_at: float = field(default_factory=time.monotonic)
    suspects: bool = False
    server: float | None = None
    due: bool = False
    paused: bool = False
    delayed: Lookback = field(default_factory=Lookback)


class Claimer(ListenLoop):
    """Claims for all queues in turn, so that none starves another, and never more than there is capacity for.

    A suspect (a job whose workers keep dying) runs alone: the claimer lets the pool run empty, leases that one job, and
    claims nothing beside it.
    """

    name = "claim"

    def __init__(
        self,
        link: Link,
        meter: Meter,
        sources: list[tuple[Queue, Store]],
        leases: Leases,
        pool: Pool | Places,
        completer: Completer,
        *,
        worker: str,
        poll_seconds: float,
    ) -> None:
        super().__init__(link, meter)
        self._sources = [_Source(queue, store, Permits(queue, store, leases.lease_seconds)) for queue, store in sources]
        self._leases = leases
        self._pool = pool
        self._worker = worker
        self._poll = poll_seconds
        self._lost_claims = LostClaims()
        self._alone = False
        self._alone_since = 0.0
        self._next_suspect_at = 0.0
        self._backlog = False
        self._first = 0
        self._claiming = threading.Lock()
        self._closed = threading.Event()
        self._token: UUID | None = None
        apart = {queue.name: queue.limit or LOOP_LIMIT for queue, _ in sources if is_async(queue.handler)}
        self.capacity = Capacity(pool, completer, [queue.name for queue, _ in sources], apart, self._wake, self.wake)

    def notify(self, queue: str | None) -> None:
        """Jobs of `queue` (None: of any) are due. Callable from any thread."""
        self.notify_in_own_thread(queue)
        self.wake()

    def notify_in_own_thread(self, queue: str | None) -> None:
        """The same without waking, for a listener that the claimer itself runs."""
        for source in self._sources:
            if queue is None or source.queue.name == queue:
                source.asked = True

    def freed(self, queue: str) -> None:
        """Outcomes of `queue` were recorded, and its limits may permit more. Callable from any thread."""
        for source in self._sources:
            if source.queue.name == queue and source.permits.freed():
                self.wake()

    def lanes(self, queue: str) -> LaneFloors:
        """The queue's lanes with their safe floors, for measuring it. Callable from any thread."""
        return next(source.lanes.survey_from() for source in self._sources if source.queue.name == queue)

    @property
    def paused(self) -> list[str]:
        """The queues that were paused when this claimer last looked."""
        return [source.queue.name for source in self._sources if source.paused]

    @property
    def idle(self) -> bool:
        """Whether nothing is due that this claimer could lease."""
        return all(source.drained and not source.suspects and not source.asked for source in self._sources)

    def close(self, timeout: float) -> None:
        """Claim nothing more; the loop goes on to listen. Waits for a claim under way for `timeout` seconds."""
        self._closed.set()
        self.wake()
        if self._claiming.acquire(timeout=timeout):
            self._claiming.release()

    def lost(self) -> None:
        super().lost()
        for source in self._sources:
            source.lanes.reset()
            source.delayed.reset()
            source.permits.lost()
            source.drained = False
            source.asked = True

    def turn(self) -> float:
        super().turn()
        if self._wake.is_set():
            # Below we look at whatever woke us.
            self._wake.clear()
        with self._claiming:
            self._lost_claims.give_back(self.link)
            if self._closed.is_set():
                return min(self._poll, 1.0)
            seconds = self._claim_in_turn()
            # A claim that came back after the order to stop is given back without a rest.
            return 0.0 if self._closed.is_set() else seconds

    def _claim_in_turn(self) -> float:
        """Serve every queue that may have something due; returns the seconds to rest."""
        now = time.monotonic()
        for source in self._sources:
            if source.asked or now >= source.look_at:
                source.drained = False
        if self._must_wait(now):
            return min(self._poll, 1.0)
        # Each turn begins with the next queue, so that none is always served first.
        self._first = (self._first + 1) % len(self._sources)
        in_turn = self._sources[self._first :] + self._sources[: self._first]
        self.capacity.prepare(backlog=self._backlog)
        self._backlog = False
        more = False
        for source in in_turn:
            if self._closed.is_set():
                return 0.0
            if not source.drained and now >= source.permits.until:
                more = self._serve(source) or more
        return 0.0 if more else self._rest()

    def _rest(self) -> float:
        """Seconds until there may be something to claim. A queue that lacks only capacity is woken by a job's end."""
        if any(source.drained and source.asked for source in self._sources):
            return 0.0
        until = [source.look_at for source in self._sources if source.drained]
        # One that lacks only capacity has no such time, or one that has passed.
        now = time.monotonic()
        until += [source.permits.until for source in self._sources if not source.drained and source.permits.until > now]
        if any(source.suspects for source in self._sources):
            until.append(self._next_suspect_at)
        return max(0.001, min(until) - time.monotonic()) if until else self._poll

    def _must_wait(self, now: float) -> bool:
        """Whether a job that runs alone, a full pool or outcomes that cannot be recorded hold claiming up."""
        if self._alone:
            if not self.capacity.empty:
                return True
            self._alone = False
            # Between suspects ordinary jobs get as much time as the last suspect took.
            self._next_suspect_at = now + max(1.0, now - self._alone_since)
        if any(source.suspects for source in self._sources) and now >= self._next_suspect_at:
            if not self.capacity.empty:
                return True
            self._run_suspect()
            return self._alone
        return self.capacity.full

    def _serve(self, source: _Source) -> bool:
        """Claim a batch from one queue; survey the queue when the batch came back short, or when it is time to.

        Returns whether there may be more to claim at once.
        """
        now = time.monotonic()
        asked = self.capacity.batch(source.queue)
        if not asked:
            return False
        if now - source.forgotten_at > _FORGET_EVERY:
            source.lanes.reset()
            source.forgotten_at = now
        # Cleared before the claim: a notification that arrives during it asks for another look.
        source.asked = False
        source.look_at = now + self._poll * (0.8 + 0.2 * random.random())
        claimed = self._claim(source, asked)
        full = claimed == asked
        if claimed and not full:
            time.sleep(_YIELD_SECONDS)
            # Made now: the next job will not wait for it.
            self._token = uuid4()
        if full:
            self._backlog = True
        wait = max(0.0, source.permits.until - now)
        short = source.permits.short or wait > 0
        if (full or short) and now - source.surveyed_at < _SURVEY_EVERY and wait < _SURVEY_EVERY / 4:
            return not wait
        if short:
            # What is due waits for permits, and not for somebody to tell of it.
            self._survey(source)
            source.drained = not source.due
            return source.due and not wait
        source.drained = not self._survey(source) and not full
        return not source.drained

    def _claim(self, source: _Source, limit: int) -> int:
        lanes = source.lanes.claim_from()
        if not lanes.priorities:
            return 0
        leased = self._lease(
            source,
            limit,
            lambda token: source.permits.claim(self.link, lanes, limit, token, self._worker),
        )
        first: dict[int, int] = {}
        for job in leased:
            first.setdefault(job.priority, job.position)
        for priority, position in first.items():
            source.lanes.claimed(priority, position)
        return len(leased)

    def _lease(self, source: _Source, limit: int, claim: Callable[[UUID], list[LeasedJob]]) -> list[LeasedJob]:
        token, self._token = self._token or uuid4(), None
        try:
            jobs = claim(token)
        except LOST:
            # We cannot know whether the claim was committed. If it was, nobody runs those jobs: give them back later.
            self._lost_claims.add(source.store, token)
            raise
        if self._closed.is_set():
            # The answer came after the order to stop: begin none of its jobs.
            self._lost_claims.add(source.store, token)
            return []
        if jobs:
            if len(jobs) == limit >= WORTH_HALVING:
                # Making a token yields the interpreter: later, the jobs would take it before the next claim is on its way.
                self._token = uuid4()
            self._leases.hold(jobs)
            self.capacity.took(source.queue.name, len(jobs))
            self._pool.submit(jobs)
            self.meter.started(source.queue.name, [job.waited for job in jobs])
        return jobs

    def _run_suspect(self) -> None:
        for source in self._sources:
            if not source.suspects:
                continue
            leased = self._lease(
                source,
                1,
                lambda token, source=source: source.permits.claim_suspect(self.link, token, self._worker),  # type: ignore[misc]
            )
            if leased:
                self._alone, self._alone_since = True, time.monotonic()
                log.warning("suspect_runs_alone", queue=source.queue.name, job_id=str(leased[0].id))
                source.drained = False
                source.surveyed_at = 0.0
                return
            source.suspects = False

    def _survey(self, source: _Source) -> bool:
        """Look for what the claim could not see; returns whether there is something to claim now."""
        lanes = source.lanes.survey_from()
        back = source.delayed.seconds()
        seen = source.store.survey(self.link, lanes, source.lanes.gaps(), back)
        source.surveyed_at = time.monotonic()
        source.suspects = seen.suspects and not seen.paused
        source.permits.surveyed(limited=seen.limited)
        if seen.paused is not source.paused:
            log.info("queue_paused" if seen.paused else "queue_resumed", queue=source.queue.name)
        source.paused = seen.paused
        self.meter.paused(source.queue.name, paused=seen.paused)
        if source.server not in (None, seen.server):
            # A pooler led us to another server without a word: what we know of lanes is the other's.
            source.server = seen.server
            source.lanes.reset()
            source.delayed.reset()
            source.permits.lost()
            source.due = not seen.paused
            return source.due
        source.server = seen.server
        news = source.lanes.surveyed(lanes.priorities, seen.heads, seen.found, seen.oldest_running)
        if source.lanes.wants_mark:
            source.lanes.mark(seen.last_position, source.store.mark(self.link))
        if seen.next_delayed is not None and seen.next_delayed <= 0:
            news = source.store.promote(self.link, back) > 0 or news
        else:
            source.delayed.clean()
            if seen.next_delayed is not None:
                source.look_at = min(source.look_at, source.surveyed_at + seen.next_delayed)
        source.due = not seen.paused and (news or any(head is not None for head in seen.heads))
        return news and not seen.paused

    def last(self) -> None:
        try:
            self._lost_claims.give_back(self.link)
        except LOST as error:
            log.warning("jobs_left_to_their_leases", error=str(error).strip())
        finally:
            super().last()
