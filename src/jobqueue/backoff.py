"""How long to wait before the next attempt. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: uniform in [0, min(cap, base * 2**n)] seconds before retry n.

    Full jitter spreads the retries of jobs that failed together better than any other form
    (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    base: float = 10.0
    cap: float = 3600.0

    def ceiling(self, retry: int) -> float:
        """Longest delay in seconds before retry number `retry`, counted from 0."""
        return min(self.cap, self.base * 2.0 ** min(retry, 64))

    def delay(self, retry: int) -> float:
        """A random delay in seconds before retry number `retry`, counted from 0."""
        return random.uniform(0.0, self.ceiling(retry))


class Reconnect:
    """Delays between attempts of a loop that lost its connection: 0.1 s growing to 5 s, jittered, reset by success."""

    FIRST, LONGEST = 0.1, 5.0

    def __init__(self) -> None:
        self._ceiling = self.FIRST

    def reset(self) -> None:
        self._ceiling = self.FIRST

    def next(self) -> float:
        """Seconds to wait now; each call doubles the ceiling."""
        delay = random.uniform(self._ceiling / 2, self._ceiling)
        self._ceiling = min(self.LONGEST, self._ceiling * 2)
        return delay
