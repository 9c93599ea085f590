"""Which ticks to propose when a schedule is due: those of now, and those missed that its policy makes up for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

from jobqueue.schedule.schedule_rules import previous, ticks

if TYPE_CHECKING:
    from jobqueue.schedule.schedule_rules import Rule

Missed = Literal["once", "skip", "catch_up"]

LATE: Final = timedelta(seconds=15)
"""A tick that fell due no longer ago than this, while this process watched, is late and not missed: the database
was restarting, or the machine was busy. Each such tick runs."""

_COUNTED: Final = 1000


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick to record: it runs, or with `missed` is passed over. It stands for so many ticks; the next one is due when it `ends`."""

    at: datetime
    ends: datetime | None
    stands_for: int = 1
    missed: bool = False

    def document(self) -> dict[str, Any]:
        """The tick as the database reads it."""
        ends = None if self.ends is None else self.ends.isoformat()
        return {"at": self.at.isoformat(), "ends": ends, "stands_for": self.stands_for, "missed": self.missed}


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of missed ticks.

    `once`: the last of them runs, late. `skip`: those that are at most `grace` late run. `catch_up`: the last `most` run.
    """

    missed: Missed = "once"
    grace: timedelta = timedelta(minutes=1)
    most: int = 10


def due_ticks(rule: Rule, policy: Policy, first: datetime, now: datetime, watched_since: datetime) -> list[Tick]:
    """The ticks from `first`, for which the schedule waits, up to `now`, in order; empty when `first` is yet to come.

    This process has looked at schedules since `watched_since`.
    """
    if first > now:
        return []
    floor = max(watched_since, now - LATE)
    if policy.missed == "skip":
        floor = min(floor, now - policy.grace)
    on_time = [tick for tick in _from(rule, first, now, floor) if tick >= floor]
    found = [Tick(at, rule.next(at)) for at in on_time]
    if first >= floor:
        return found
    last = previous(rule, on_time[0] - timedelta(microseconds=1) if on_time else now)
    # A row may wait for a moment that its rule never gives: somebody set it, or the time zone has other rules now.
    last = first if last is None or last < first else last
    if policy.missed == "catch_up":
        missed = _last(rule, first, last, policy.most)
        return [*(Tick(at, rule.next(at)) for at in missed), *found]
    number = 1 + sum(1 for _ in islice(ticks(rule, first, last), _COUNTED - 1))
    return [Tick(last, rule.next(last), number, missed=policy.missed == "skip"), *found]


def _from(rule: Rule, first: datetime, until: datetime, floor: datetime) -> list[datetime]:
    """`first` and the ticks after it, without those before `floor`."""
    start = max(first, floor - timedelta(microseconds=1))
    return [*([first] if first >= floor else ()), *ticks(rule, start, until)]


def _last(rule: Rule, first: datetime, last: datetime, most: int) -> list[datetime]:
    """The last `most` of the ticks from `first` to `last`, in order."""
    found = [last]
    while len(found) < most and found[0] > first:
        before = previous(rule, found[0] - timedelta(microseconds=1))
        if before is None or before < first:
            break
        found.insert(0, before)
    return found
