"""When an endpoint that fails is left alone, and when it is tried again. Pure: the caller gives the time.

A breaker opens after a few failures in a row. It stays open for a second, then twice as long each time, up to ten. Then it lets
a few deliveries through at once, and the first that succeeds closes it. So a dead endpoint costs a handful of attempts
every ten seconds instead of one for every delivery, and still reaches 100 failures in a row within minutes, which disable it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jobqueue.backoff import Backoff

# Failures in a row that open a breaker.
THRESHOLD: Final = 5

# Deliveries that a breaker lets through at once when it has been open long enough.
PROBES: Final = 3

# How long a breaker stays open, by the number of times that it has opened before.
OPEN: Final = Backoff(first=1.0, longest=10.0, jitter=0.5)


@dataclass(slots=True)
class Breaker:
    """One endpoint's failures in a row, and until when it is left alone. Times are those of time.monotonic()."""

    failures: int = 0
    open_until: float = 0.0
    trips: int = 0
    seats: int = PROBES

    def is_open(self, now: float) -> bool:
        """Whether nothing may be sent at `now`."""
        return now < self.open_until

    @property
    def trusted(self) -> bool:
        """Whether the endpoint gets its whole share when the breaker is not open; otherwise it gets PROBES deliveries at a time."""
        return self.failures < THRESHOLD

    def failed(self, now: float, asked: float | None = None) -> None:
        """Note an attempt that failed at `now`. `asked` is how many seconds the endpoint asked to be left alone."""
        self.failures += 1
        if asked is not None:
            self._open(max(self.open_until, now + asked))
        elif not self.trusted and not self.is_open(now):
            self.trips += 1
            self._open(now + OPEN.delay(self.trips - 1))

    def succeeded(self) -> None:
        """Note an attempt that succeeded: nothing counts against the endpoint any more."""
        self.failures, self.trips, self.open_until = 0, 0, 0.0

    def take_seat(self) -> bool:
        """Take one of the PROBES places for when the breaker lets deliveries through; False when all are taken."""
        self.seats -= 1
        return self.seats >= 0

    def _open(self, until: float) -> None:
        self.open_until = until
        self.seats = PROBES
