"""Cron expressions in a time zone: which instants they mean.

cronsim reads the expression, in Debian's dialect: five fields, or six with the seconds first. The zone is ours: cronsim
gives wall-clock times only, and this module turns each into instants. Stepping through local time by the hour would
lose ticks where a zone shifts by half an hour (`0 */2 * * *` misses 02:00 in Australia/Lord_Howe on the day daylight
saving ends). A change of the clocks follows Debian's rule:

- An expression with fixed hours and minutes means times of day. Each happens once: one that the clocks skip happens at the
  moment they do, and one that comes twice happens the first time.
- An expression whose minutes or hours begin with `*`, and any with seconds, means whenever the clock on the wall shows
  that time: not at all when it is skipped, twice when it comes twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cronsim import CronSim, CronSimError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_LONGEST: Final = 256
_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)
# Zones do not change twice within a day.
_STRIDE: Final = timedelta(days=1)
_SOME_DAY: Final = datetime(2024, 1, 1)  # noqa: DTZ001 - a wall clock has no zone


@dataclass(frozen=True)
class Cron:
    """One expression in one zone. Raises ValueError for an expression that is malformed or never ticks."""

    expression: str
    zone: tzinfo
    _fields: str = field(init=False, repr=False)
    _fixed: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        fields = self.expression.strip()
        if fields.startswith("@"):
            if fields.lower() == "@reboot":
                raise ValueError("cron cannot be @reboot: a schedule ticks by the clock, not when a process starts")
            if fields.lower() not in NICKNAMES:
                raise ValueError(f"cron has a nickname that is none of {', '.join(NICKNAMES)}")
            fields = NICKNAMES[fields.lower()]
        if len(fields) > _LONGEST:
            raise ValueError(f"cron must not be longer than {_LONGEST} characters")
        try:
            if next(CronSim(fields, _SOME_DAY), None) is None:
                raise ValueError("cron never ticks: no date has all that it asks for")
        except CronSimError as error:
            raise ValueError(f"cron is not an expression of five fields: {str(error).lower()}") from None
        parts = fields.split()
        object.__setattr__(self, "_fields", fields)
        object.__setattr__(
            self, "_fixed", len(parts) == 5 and not parts[0].startswith("*") and not parts[1].startswith("*")
        )

    @property
    def words(self) -> str:
        """The expression in words: `At 02:06 every day`."""
        return str(CronSim(self._fields, _SOME_DAY).explain())

    def next(self, after: datetime) -> datetime | None:
        """The first tick later than `after`; None when there is none for fifty years."""
        try:
            return self._next_fixed(after) if self._fixed else self._next_shown(after)
        except OverflowError:
            return None

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """The wall-clock times later than `after`, itself one, that match."""
        return iter(CronSim(self._fields, after))

    def _next_fixed(self, after: datetime) -> datetime | None:
        # A later wall-clock time is never an earlier instant here, so what is not later than the wall clock now is over.
        for wall in self._walls(_wall(after, self.zone)):
            tick = self._first_at(wall)
            if tick > after:
                return tick
        return None

    def _first_at(self, wall: datetime) -> datetime:
        """The first instant at which the clock shows `wall`; where the clock skips it, the moment of the skip."""
        while True:
            tick = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
            if _wall(tick, self.zone) == wall:
                return tick
            wall += _MINUTE

    def _next_shown(self, after: datetime) -> datetime | None:
        while True:
            offset = _offset(after, self.zone)
            wall = next(self._walls((after + offset).replace(tzinfo=None)), None)
            tick = None if wall is None else (wall - offset).replace(tzinfo=UTC)
            change = self._change(after, tick)
            if change is None:
                return tick
            # From there on the wall clock differs, and the time that it shows at that very moment may match.
            if _matches(self._fields, _wall(change, self.zone)):
                return change
            after = change

    def _change(self, after: datetime, until: datetime | None) -> datetime | None:
        """The first moment later than `after`, and not later than `until`, at which the zone has another offset."""
        if until is None:
            return None
        offset, low = _offset(after, self.zone), after
        while low < until:
            high = min(low + _STRIDE, until)
            if _offset(high, self.zone) != offset:
                while high - low > _SECOND:
                    middle = low + (high - low) // 2
                    low, high = (low, middle) if _offset(middle, self.zone) != offset else (middle, high)
                return high.replace(microsecond=0)
            low = high
        return None


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _matches(fields: str, wall: datetime) -> bool:
    return next(CronSim(fields, wall - _SECOND), None) == wall
