"""Schedules that tick every so many seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH: Final = re.compile(r"(?:[0-9]{1,9}[smhdw])+")

LONGEST: Final = 366 * 86_400
"""Seconds that may lie between two ticks of an interval, before it is scaled."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Ticks at whole multiples of `seconds` since 1970 in UTC.

    Nobody needs to remember anything: every process, and every start of one, arrives at the same ticks. A period that
    divides a day ticks at the same times each day, in UTC; a week ticks on Thursdays.
    """

    seconds: int

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= LONGEST * 6:
            raise ValueError("every must be from 1s to 366d")

    def next(self, after: datetime) -> datetime | None:
        """The first tick later than `after`."""
        since = after - _EPOCH
        number = since // timedelta(seconds=self.seconds) + 1
        try:
            return _EPOCH + timedelta(seconds=number * self.seconds)
        except OverflowError:
            return None

    @property
    def words(self) -> str:
        """`Every 15 minutes`, `Every hour`, `Every 1 h 30 min`."""
        for name, size in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
            number, rest = divmod(self.seconds, size)
            if rest == 0:
                return f"Every {name}" if number == 1 else f"Every {number:,} {name}s"
        raise AssertionError("every number of seconds is a whole number of seconds")


def read_length(text: str) -> int:
    """Read a length of time such as `90s`, `15m`, `1h30m`, `1d`; returns seconds. Raises ValueError."""
    if not _LENGTH.fullmatch(text):
        raise ValueError("must be a length of time such as 90s, 15m, 1h30m or 1d")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhdw])", text))


def write_length(seconds: int) -> str:
    """The shortest way to write a length of time: `15m`, `1d`, `90s`."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"
