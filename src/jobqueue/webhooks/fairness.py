"""Which webhook may use a slot of this process now, so that a slow or dead endpoint never holds up the others.

Three rules:

    share       A webhook uses at most its fair share of slots, twice what an even division would give it.
    probation   Webhooks that are slow or that fail use at most half of the slots together. Those of which nothing is known yet
                use one each, until all of these together use three quarters. The rest is for those that answer.
    breaker     An endpoint that failed several times in a row is left alone for a while (see endpoint_breaker.py).

A delivery that may not go now is put off, without a charge, to when its webhook should get to it: the more of its deliveries
wait, the later. So each delivery of a backlog is looked at once and not again and again, and is in nobody's way.
When a webhook turns out to be faster than it looked, or comes back to life, its deliveries that were put off are called back.

Each process knows only what it saw itself. Nothing but speed depends on its being right.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from jobqueue.webhooks.endpoint_breaker import PROBES, Breaker

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# Seconds. An endpoint is slow when it takes longer, or has kept one request waiting for longer.
SLOW: Final = 1.0

# Seconds for which a delivery is put off: at least, and at most, unless its endpoint asked for more.
SOONEST: Final = 0.25
LATEST: Final = 300.0

# Seconds. A webhook that had no delivery for so long does not count when slots are shared out.
_ACTIVE: Final = 10.0

# Seconds. A webhook that had no delivery for so long is forgotten.
_FORGOTTEN: Final = 900.0

# Deliveries of one webhook are called back so often, in seconds, and so many at once at most.
_CALL_EVERY: Final = 0.5
_MOST_CALLED: Final = 500

# The weight of the last answer in the average time that an endpoint takes.
_WEIGHT: Final = 0.3

# Seconds for which a webhook that was found disabled is not looked at again: its deliveries end at once and need no slot.
_DISABLED: Final = 2.0


@dataclass(frozen=True, slots=True)
class PutOff:
    """A delivery may not go now, but in so many `seconds`."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Call:
    """Up to `number` deliveries of `webhook` that were put off could go now."""

    webhook: Any
    number: int


@dataclass(slots=True, eq=False)
class Visit:
    """One delivery that goes now. It is `counted` while it uses a slot; one that ends without a request uses none."""

    endpoint: EndpointShare
    began: float
    counted: bool = True


@dataclass(slots=True, eq=False)
class EndpointShare:
    """What this process knows of one webhook. Times are those of time.monotonic()."""

    webhook: Any
    breaker: Breaker
    proven: bool
    seen_at: float
    average: float | None = None
    visits: list[Visit] = field(default_factory=list)
    put_off: int = 0
    put_off_at: float = 0.0
    appointment: float = 0.0
    called_at: float = 0.0
    began_at: float = 0.0
    disabled_until: float = 0.0

    def on_probation(self, now: float) -> bool:
        """Whether the webhook is slow, fails, or has not shown yet that it does neither."""
        return self.is_stuck(now) or not self.proven or self.takes > SLOW or not self.breaker.trusted

    def is_new(self, now: float) -> bool:
        """Whether nothing is known of the webhook, good or bad."""
        return not self.proven and self.average is None and self.breaker.trusted and not self.is_stuck(now)

    def is_stuck(self, now: float) -> bool:
        """Whether a request has waited for its answer for longer than SLOW."""
        return bool(self.visits) and now - self.visits[0].began > SLOW

    @property
    def takes(self) -> float:
        """Seconds that a request takes, judged by the last ones; a guess before the first."""
        return SOONEST if self.average is None else max(self.average, 0.005)


class FairShare:
    """Shares out `slots` among webhooks. Safe to use from any thread; never waits."""

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._endpoints: dict[Hashable, EndpointShare] = {}
        self._counted_at = -1.0
        self._active = self._suspects = 1

    def knows(self, webhook: Hashable) -> bool:
        """Whether the webhook has been introduced."""
        return webhook in self._endpoints

    def introduce(self, webhook: Hashable, *, failures: int, proven: bool) -> None:
        """Say what the database knows of a webhook: its failures in a row, and whether it has ever answered well."""
        with self._lock:
            now = self._clock()
            # Another process may have put deliveries off before it ended: the first call finds out.
            self._endpoints.setdefault(
                webhook,
                EndpointShare(webhook, Breaker(failures), proven and failures == 0, now, put_off=1, put_off_at=now),
            )
            self._counted_at = -1.0

    def enter(self, webhook: Hashable) -> Visit | PutOff:
        """Ask to deliver now. Whoever gets a Visit must `leave` it. The webhook must have been introduced."""
        with self._lock:
            now = self._clock()
            endpoint = self._endpoints[webhook]
            endpoint.seen_at = now
            if now < endpoint.disabled_until:
                return Visit(endpoint, now, counted=False)
            if endpoint.breaker.is_open(now):
                return self._put_off_failing(endpoint, now)
            self._census(now)
            if len(endpoint.visits) >= self._room(endpoint, now):
                return self._put_off_crowded(endpoint, now)
            visit = Visit(endpoint, now)
            endpoint.visits.append(visit)
            endpoint.began_at = now
            return visit

    def ended(self, visit: Visit, *, succeeded: bool, seconds: float, asked: float | None = None) -> None:
        """Note how the visit's request ended and how long it took; `asked` is how long the endpoint asked to be left alone."""
        with self._lock:
            endpoint, now = visit.endpoint, self._clock()
            before = seconds if endpoint.average is None else endpoint.average
            endpoint.average = before + _WEIGHT * (seconds - before)
            if succeeded:
                endpoint.breaker.succeeded()
                if not endpoint.proven and seconds < SLOW:
                    endpoint.proven, endpoint.average = True, seconds
            else:
                endpoint.breaker.failed(now, asked)

    def disabled(self, visit: Visit) -> None:
        """Note that the webhook is disabled or gone: its deliveries need no slot, for they only end."""
        with self._lock:
            visit.endpoint.disabled_until = self._clock() + _DISABLED

    def leave(self, visit: Visit) -> None:
        """Give the visit's slot back. Can be called again."""
        with self._lock:
            if visit.counted:
                visit.counted = False
                visit.endpoint.visits.remove(visit)

    def call(self) -> Call | None:
        """Choose deliveries to call back now: those of the webhook with room that has waited longest. None when there are none."""
        with self._lock:
            now = self._clock()
            self._census(now)
            waiting = [each for each in self._endpoints.values() if each.put_off and self._could_call(each, now)]
            if not waiting:
                return None
            endpoint = min(waiting, key=lambda each: each.began_at)
            endpoint.called_at = now
            room = self._room(endpoint, now)
            number = room if not endpoint.breaker.trusted else max(2 * room, ceil(room / endpoint.takes))
            return Call(endpoint.webhook, min(number, _MOST_CALLED))

    def called(self, call: Call, number: int) -> None:
        """Note how many deliveries were found and called back."""
        with self._lock:
            endpoint, now = self._endpoints.get(call.webhook), self._clock()
            if endpoint is None:
                return
            endpoint.put_off = max(0, endpoint.put_off - number)
            # A delivery that was put off a moment ago may not be in the table yet.
            if number < call.number and now - endpoint.put_off_at > 2.0:
                endpoint.put_off = 0
            endpoint.appointment = (
                0.0 if not endpoint.put_off else endpoint.appointment - number * self._spacing(endpoint, now)
            )

    def _could_call(self, endpoint: EndpointShare, now: float) -> bool:
        return (
            not endpoint.breaker.is_open(now)
            and now - endpoint.called_at >= _CALL_EVERY
            and 2 * len(endpoint.visits) <= self._room(endpoint, now)
        )

    def _room(self, endpoint: EndpointShare, now: float) -> int:
        """How many slots the webhook may use: none while those on probation use all of theirs."""
        half = max(1, self._slots // 2)
        if not endpoint.on_probation(now):
            if self._active == 1:
                return max(1, self._slots - self._slots // 4)
            return max(1, min(ceil(self._slots / 2), 2 * self._slots // self._active))
        new = endpoint.is_new(now)
        used = sum(len(each.visits) for each in self._endpoints.values() if each.visits and each.on_probation(now))
        if used >= (max(1, self._slots - max(1, self._slots // 4)) if new else half):
            return 0
        if new:
            return 1
        share = max(1, half // self._suspects)
        return share if endpoint.breaker.trusted else min(PROBES, share)

    def _spacing(self, endpoint: EndpointShare, now: float) -> float:
        return endpoint.takes / max(1, self._room(endpoint, now))

    def _put_off_crowded(self, endpoint: EndpointShare, now: float) -> PutOff:
        endpoint.appointment = max(endpoint.appointment, now + SOONEST) + self._spacing(endpoint, now)
        return self._put_off(
            endpoint, min(endpoint.appointment - now, LATEST), "its webhook uses its share of slots", now
        )

    def _put_off_failing(self, endpoint: EndpointShare, now: float) -> PutOff:
        until = endpoint.breaker.open_until - now
        # The first few come when the breaker lets them through; the others wait for what comes of that.
        seconds = until + 0.01 if endpoint.breaker.take_seat() else max(until, LATEST)
        return self._put_off(endpoint, seconds, "its endpoint failed lately, or asked to wait", now)

    def _put_off(self, endpoint: EndpointShare, seconds: float, reason: str, now: float) -> PutOff:
        endpoint.put_off += 1
        endpoint.put_off_at = now
        return PutOff(seconds, reason)

    def _census(self, now: float) -> None:
        """Count the webhooks that share the slots, a few times a second, and forget those that are idle."""
        if now - self._counted_at < SOONEST and self._counted_at >= 0:
            return
        self._counted_at = now
        idle = [key for key, each in self._endpoints.items() if not each.visits and now - each.seen_at > _FORGOTTEN]
        for key in idle:
            del self._endpoints[key]
        active = [each for each in self._endpoints.values() if each.visits or now - each.seen_at <= _ACTIVE]
        self._active = max(1, len(active))
        self._suspects = max(1, sum(each.on_probation(now) for each in active))
