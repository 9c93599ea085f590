"""The clock that times a peer. It stands still while the caller waits for somebody else, such as the database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class PeerClock:
    """Counts the time that one peer has had: all but what passes in the caller's checkpoint. For one thread.

    `checkpoint` returns while the caller still wants the answer, and raises when not. It may take long: a worker acts on no
    job while the database is silent. Nobody reads what the peer sends meanwhile, so that time is not the peer's.
    """

    def __init__(self, checkpoint: Callable[[], None]) -> None:
        self._checkpoint = checkpoint
        self._ours = 0.0

    def now(self) -> float:
        """The time in seconds, from no moment in particular; for differences only."""
        return time.monotonic() - self._ours

    def checkpoint(self) -> None:
        """Call the caller's checkpoint; the clock stands still meanwhile. Raises what that raises."""
        began = time.monotonic()
        self._checkpoint()
        self._ours += time.monotonic() - began
