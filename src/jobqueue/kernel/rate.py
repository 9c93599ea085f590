"""How many jobs may start in which time, over all processes: as people write it, "10/s"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from jobqueue.errors import ConfigurationError

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

_WRITTEN: Final = re.compile(r"([0-9]{1,9})\s*/\s*([smhd])", re.ASCII)

# The server reckons in whole nanoseconds: beyond this many jobs a second there would be none between two of them.
_FASTEST: Final = 1_000_000.0

# The longest time, in seconds, between two jobs.
_SLOWEST: Final = 30 * 86_400.0

# Jobs come evenly spaced. What falls due within so many seconds may start together: a claim costs more by the statement than
# by the job.
_TOGETHER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Rate:
    """So many `jobs` in so many `seconds`, evenly spaced: in any time of w seconds no more than `burst + jobs / seconds * w` start.

    Raises ConfigurationError for a rate that nothing could be done with.
    """

    jobs: int
    seconds: float = 1.0

    def __post_init__(self) -> None:
        # Written so that it holds for NaN too.
        if self.jobs < 1 or not self.seconds > 0:
            raise ConfigurationError([f"the rate {self} lets no job start: at least 1 job in more than 0 seconds"])
        if not self.jobs / self.seconds <= _FASTEST or not self.seconds / self.jobs <= _SLOWEST:
            raise ConfigurationError([f"the rate {self} is out of range: from 1 job in 30 days to 1,000,000 a second"])

    @classmethod
    def parse(cls, text: str) -> Rate:
        """The rate that `text` says: a number, a slash, and s, m, h or d. Raises ConfigurationError when it says none."""
        written: object = text
        found = _WRITTEN.fullmatch(written.strip()) if isinstance(written, str) else None
        if found is None:
            raise ConfigurationError([f'the rate {text!r} is none: write it as "10/s", "600/m", "5/h" or "100/d"'])
        return cls(int(found[1]), _SECONDS[found[2]])

    @property
    def burst(self) -> int:
        """How many jobs may start at once after a rest: a tenth of a second's worth, and at least 1."""
        return max(1, int(self.jobs / self.seconds * _TOGETHER))

    @property
    def interval(self) -> int:
        """Nanoseconds from one job to the next, rounded up: what is rounded off makes the rate lower."""
        return -int(-self.seconds * 1_000_000_000 // self.jobs)

    def __str__(self) -> str:
        unit = next((unit for unit, seconds in _SECONDS.items() if seconds == self.seconds), f"{self.seconds:g}s")
        return f"{self.jobs}/{unit}"
