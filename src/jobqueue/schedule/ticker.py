"""The ticker: one thread a process that waits for the earliest tick and proposes it to the database.

It looks at the database once a second, in one short statement: the clock, and whether any definition has changed. It works a
tick out once, when a definition or the last tick has changed, and keeps it in a heap. Between two looks it sleeps until the
earliest. A notification ends the sleep, but nothing depends on one.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import errors

from jobqueue.kernel.loop import Loop
from jobqueue.observe.logging import get_logger
from jobqueue.schedule.due_ticks import due_ticks
from jobqueue.schedule.schedules_table import Armed, Proposal, Schedules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.meter import Meter
    from jobqueue.schedule.backend_settings import BackendSettings
    from jobqueue.schedule.schedule_rules import Rule
    from jobqueue.schedule.schedules_file import ScheduleEntry
    from jobqueue.schedule.schedules_table import Fired, Glance, Schedule

log = get_logger(__name__)

_LOOK_EVERY: Final = 1.0

# Seconds within which any number of notifications lead to one look.
_PATIENCE: Final = 0.05

_RELOAD_EVERY: Final = 300.0
_SUCCESSES_EVERY: Final = 15.0

# How often, in seconds, the thread looks whether it must stop.
_GLANCE: Final = 0.5

# A row that somebody else holds is asked for again after so many seconds; so is one for whose tick our clock was early.
_AGAIN: Final = 0.02

# Schedules that one statement ticks: their rows stay locked until it ends.
_BATCH: Final = 100

# What code that reads a row raises over values that nobody has thought of: a payload that is no object, a NULL of the host's.
_MALFORMED: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

# What the database raises over one row's values, or a host's own trigger or constraint on `jobs` over what is made of them.
_REFUSED: Final = (psycopg.DataError, psycopg.IntegrityError, errors.RaiseException)


@dataclass(slots=True)
class _Watched:
    """A schedule of the database, and the tick it waits for. `rule` is None while it does not tick here."""

    schedule: Schedule
    rule: Rule | None
    waits_for: datetime | None


class Ticker(Loop):
    """Ticks the schedules whose work this process can do, as `serves(schedule)` says.

    With `entries` None it never ticks; it only calls `fetch_settings` when somebody wants the backend's settings.
    `reread`, called about once a second, gives other entries when the file has changed, and None while it has not.
    """

    name = "schedule"

    def __init__(
        self,
        link: Link,
        meter: Meter,
        entries: Sequence[ScheduleEntry] | None,
        serves: Callable[[Schedule], bool],
        fetch_settings: Callable[[], None] = lambda: None,
        reread: Callable[[], Sequence[ScheduleEntry] | None] = lambda: None,
    ) -> None:
        super().__init__(link, meter)
        self._entries = entries
        self._serves = serves
        self._fetch_settings = fetch_settings
        self._reread = reread
        self._schedules = Schedules(link)
        self._synced = False
        self._listening = 0
        self._digest = ""
        self._looked_at = self._loaded_at = self._counted_at = -1e9
        self._counted_until: datetime | None = None
        self._clock = (datetime.min.replace(tzinfo=UTC), 0.0)
        self._watched_since: datetime | None = None
        self._watched: dict[str, _Watched] = {}
        self._heap: list[tuple[datetime, str]] = []

    def turn(self) -> float:
        self._listen()
        if self._entries is not None and not self._synced:
            if changed := self._schedules.sync(self._entries):
                log.info("schedules_synced", changed=len(changed), names=changed[:20])
            self._synced = True
        if time.monotonic() - self._looked_at >= _LOOK_EVERY:
            self._look()
        due = self._due()
        if due:
            self._fire(due)
            return 0.0
        self._sleep()
        return 0.0

    def lost(self) -> None:
        self.link.close()
        self._looked_at = -1e9

    def now(self) -> datetime:
        """The database's clock, as this process last measured it."""
        at, measured = self._clock
        return at + timedelta(seconds=time.monotonic() - measured)

    def _listen(self) -> None:
        self.link.connection()
        if self._listening != self.link.opened:
            self.link.fetch(b"LISTEN jobqueue_schedules")
            self._listening = self.link.opened
            self._looked_at = -1e9

    def _look(self) -> None:
        glance = self._measure()
        if glance.settings_wanted:
            self._look_within(glance.wait)
            if glance.wait <= 0:
                self._looked_at = time.monotonic()
                self._fetch_settings()
        if self._entries is None:
            return
        if self._watched_since is None:
            self._watched_since = glance.now
        if (entries := self._reread()) is not None:
            self._entries, self._synced = entries, False
        stale = time.monotonic() - self._loaded_at > _RELOAD_EVERY
        if glance.digest != self._digest or stale:
            self._load(everything=stale)
            self._digest = glance.digest
        if time.monotonic() - self._counted_at > _SUCCESSES_EVERY:
            self._count_successes()

    def _look_within(self, seconds: float) -> None:
        self._looked_at = min(self._looked_at, time.monotonic() - _LOOK_EVERY + max(_PATIENCE, seconds))

    def _measure(self) -> Glance:
        asked = time.monotonic()
        glance = self._schedules.look()
        answered = time.monotonic()
        self._looked_at = answered
        # The clock was read half the way there and back ago: a tick is rather late than early.
        self._clock = (glance.now, asked + (answered - asked) / 2)
        return glance

    def _load(self, *, everything: bool) -> None:
        settings = self._schedules.settings()
        found = {schedule.name: schedule for schedule in self._schedules.load()}
        self._loaded_at = time.monotonic()
        for name in self._watched.keys() - found.keys():
            del self._watched[name]
        for name, schedule in found.items():
            known = self._watched.get(name)
            if everything or known is None or known.schedule.revision != schedule.revision:
                rule = self._rule(schedule, settings)
                self._watched[name] = _Watched(schedule, rule, schedule.next_tick_at)
            else:
                known.waits_for = schedule.next_tick_at
        self._arm()
        self._heap = [(each.waits_for, name) for name, each in self._watched.items() if each.rule and each.waits_for]
        heapq.heapify(self._heap)
        log.info(
            "schedules_loaded",
            schedules=len(found),
            ticking=len(self._heap),
            backend_settings=None if settings is None else settings.document(),
        )

    def _rule(self, schedule: Schedule, settings: BackendSettings | None) -> Rule | None:
        try:
            if not schedule.enabled or schedule.paused_at is not None or not self._serves(schedule):
                return None
            return schedule.rule(settings)
        except _MALFORMED as error:
            log.error("schedule_malformed", schedule=schedule.name, error=error)
            return None

    def _arm(self) -> None:
        """Have schedules that wait for no tick wait for their next one. Another process may be first."""
        now, armed = self.now(), {}
        for name, each in self._watched.items():
            if each.rule is not None and each.waits_for is None:
                tick = each.rule.next(now)
                if tick is not None:
                    armed[name] = Armed(each.schedule.revision, tick)
        if not armed:
            return
        self._schedules.arm(armed)
        for schedule in self._schedules.load(sorted(armed)):
            self._move(schedule.name, schedule.revision, schedule.next_tick_at)

    def _move(self, name: str, revision: int | None, waits_for: datetime | None) -> None:
        """Note what a schedule waits for now. One of another revision does not tick until it is loaded again."""
        each = self._watched.get(name)
        if each is None:
            return
        each.waits_for = waits_for
        if revision != each.schedule.revision:
            each.rule = None
        if each.rule is None or waits_for is None:
            self._digest = ""
            self._look_within(_PATIENCE)

    def _due(self) -> list[str]:
        """Take the schedules that are due off the heap, a batch at most."""
        due: list[str] = []
        now = self.now()
        while self._heap and self._heap[0][0] <= now and len(due) < _BATCH:
            due.append(heapq.heappop(self._heap)[1])
        return due

    def _fire(self, names: Sequence[str]) -> None:
        now, proposals = self.now(), []
        for name in names:
            each = self._watched[name]
            if each.rule is None or each.waits_for is None:
                continue
            try:
                ticks = due_ticks(each.rule, each.schedule.policy, each.waits_for, now, self._watched_since or now)
                following = each.rule.next(max(now, ticks[-1].at)) if ticks else None
            except _MALFORMED as error:
                self._set_aside(each, error)
                continue
            if ticks:
                proposals.append(Proposal(each.schedule, each.waits_for, ticks, following))
        again = False
        for fired in self._propose(proposals):
            if fired.outcomes is not None:
                self._report(fired, now)
            self._move(fired.name, fired.revision, fired.next_tick_at)
            again = again or (fired.outcomes is None and fired.next_tick_at is not None and fired.next_tick_at <= now)
        for name in names:
            each = self._watched[name]
            if each.rule is not None and each.waits_for is not None:
                heapq.heappush(self._heap, (each.waits_for, name))
        if again:
            self._stopping.wait(_AGAIN)

    def _propose(self, proposals: Sequence[Proposal]) -> list[Fired]:
        """Have the database take the proposals, one by one where it refuses them together. What it refuses alone is set aside."""
        try:
            return self._schedules.fire(proposals)
        except _REFUSED as error:
            if len(proposals) == 1:
                self._set_aside(self._watched[proposals[0].schedule.name], error)
                return []
        return [fired for proposal in proposals for fired in self._propose([proposal])]

    def _set_aside(self, each: _Watched, error: Exception) -> None:
        """Have a schedule not tick here until all are loaded again, or it changes: the others go on."""
        log.error("schedule_malformed", schedule=each.schedule.name, error=error)
        each.rule = None

    def _report(self, fired: Fired, now: datetime) -> None:
        assert fired.outcomes is not None
        counter = self.meter.metrics.schedule_ticks
        for outcome in fired.outcomes:
            counter.labels(fired.name, outcome).inc()
        if set(fired.outcomes) - {"enqueued"}:
            log.info("schedule_tick_not_run", schedule=fired.name, outcomes=fired.outcomes)
        late = now - (self._watched[fired.name].waits_for or now)
        late_ms = round(late / timedelta(milliseconds=1))
        log.debug("schedule_ticked", schedule=fired.name, outcomes=fired.outcomes, late_ms=late_ms)

    def _count_successes(self) -> None:
        gauge = self.meter.metrics.schedule_last_success_timestamp_seconds
        for success in self._schedules.successes(self._counted_until):
            gauge.labels(success.name).set(success.seconds)
            self._counted_until = max(success.at, self._counted_until or success.at)
        self._counted_at = time.monotonic()

    def _sleep(self) -> None:
        """Sleep until the next look or tick is due, or a notification comes."""
        rest = min(_GLANCE, self._looked_at + _LOOK_EVERY - time.monotonic())
        if self._heap:
            rest = min(rest, (self._heap[0][0] - self.now()).total_seconds())
        # The generator must run to its end: it holds the connection's lock until then.
        if list(self.link.connection().notifies(timeout=max(0.0, rest), stop_after=1)):
            self._look_within(_PATIENCE)
