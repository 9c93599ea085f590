"""When a schedule ticks: a rule gives the first tick after a moment. Pure; every moment is an aware datetime in UTC."""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from jobqueue.schedule.cron_expression import Cron
from jobqueue.schedule.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, tzinfo

# The farthest look back is two to this power, in seconds: seventeen years.
_FARTHEST: Final = 29
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,63}(/[A-Za-z0-9_+-]{1,64}){0,3}")


class Rule(Protocol):
    """A cron expression or an interval."""

    def next(self, after: datetime) -> datetime | None:
        """The first tick later than `after`; None when there is none for fifty years."""

    @property
    def words(self) -> str:
        """The rule in words."""


@lru_cache(maxsize=64)
def zone(name: str) -> tzinfo:
    """The IANA time zone `name`; UTC needs no time zone database. Raises ValueError when there is none."""
    if name == "UTC":
        return UTC
    if not _ZONE.fullmatch(name):
        raise ValueError("timezone must be a name such as Europe/Bucharest")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError):
        if not available_timezones():
            raise ValueError(
                f"timezone cannot be {name}: this machine has no time zone database; install the Python package tzdata"
            ) from None
        raise ValueError("timezone must be a name that the time zone database has, such as Europe/Bucharest") from None


def make_rule(cron: str | None, every_seconds: int | None, timezone: str) -> Rule:
    """The rule of a row of `schedules`. Raises ValueError, whose message is a phrase that says what is wrong."""
    if (cron is None) == (every_seconds is None):
        raise ValueError("needs either cron or every")
    if cron is not None:
        return Cron(cron, zone(timezone))
    assert every_seconds is not None
    zone(timezone)
    return Interval(every_seconds)


def previous(rule: Rule, at: datetime) -> datetime | None:
    """The last tick that is not later than `at`; None when there was none for years.

    It looks forwards from ever earlier moments, so that the tick is always one that `next` gives.
    """
    for power in range(1, _FARTHEST + 1):
        last = None
        for tick in ticks(rule, at - timedelta(seconds=2**power), at):
            last = tick
        if last is not None:
            return last
    return None


def ticks(rule: Rule, after: datetime, until: datetime) -> Iterator[datetime]:
    """The ticks later than `after` and not later than `until`, in order."""
    tick = rule.next(after)
    while tick is not None and tick <= until:
        yield tick
        tick = rule.next(tick)


def upcoming(rule: Rule, after: datetime, number: int) -> list[datetime]:
    """The first `number` ticks later than `after`, or as many as there are."""
    found: list[datetime] = []
    tick = rule.next(after)
    while tick is not None and len(found) < number:
        found.append(tick)
        tick = rule.next(tick)
    return found
