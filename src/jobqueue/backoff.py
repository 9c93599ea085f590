"""How long to wait before the next attempt: one formula for everything that is tried again. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tenacity.wait import wait_base

if TYPE_CHECKING:
    from tenacity import RetryCallState

# From here on the ceiling is the longest wait whatever the growth; larger powers would only overflow.
_MOST_STEPS: Final = 64


@dataclass(frozen=True, slots=True)
class Backoff(wait_base):
    """Exponential backoff with jitter, in seconds; tenacity takes it as a `wait`.

    The wait before retry n, counted from 0, lies between `1 - jitter` and 1 times its ceiling, which is
    `min(longest, first * growth ** n)`. A `jitter` of 1 is full jitter, which spreads the retries of things that failed
    together better than any other form (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015); 0.5
    keeps a pause where nothing else waits for the same peer.
    """

    first: float = 10.0
    longest: float = 3600.0
    growth: float = 2.0
    jitter: float = 1.0

    def ceiling(self, retry: int) -> float:
        """The longest wait in seconds before retry number `retry`, counted from 0."""
        try:
            return min(self.longest, self.first * self.growth ** min(retry, _MOST_STEPS))
        except OverflowError:
            return self.longest

    def delay(self, retry: int) -> float:
        """A random wait in seconds before retry number `retry`, counted from 0."""
        return self.ceiling(retry) * (1.0 - self.jitter * random.random())

    def in_sql(self, retry: str) -> str:
        """`delay` as an SQL expression of type float8; `retry` is one too, of an integer type."""
        ceiling = f"least({self.longest!r}, {self.first!r} * {self.growth!r} ^ least({retry}, {_MOST_STEPS}))::float8"
        return f"({ceiling} * (1.0 - {self.jitter!r} * random()))"

    def __call__(self, retry_state: RetryCallState) -> float:
        """The wait after the attempt that tenacity has just seen fail."""
        return self.delay(retry_state.attempt_number - 1)


RECONNECT: Final = Backoff(first=0.1, longest=5.0, jitter=0.5)
"""Between attempts to reach a database that is away."""


class Reconnect:
    """The waits of a loop that lost its connection: as RECONNECT has them, from the start again after a success."""

    def __init__(self) -> None:
        self._failed = 0

    def reset(self) -> None:
        """The connection works."""
        self._failed = 0

    def next(self) -> float:
        """Seconds to wait now; each call doubles the longest."""
        self._failed += 1
        return RECONNECT.delay(self._failed - 1)
