"""How far back to look for what has become due, in an index ordered by time.

While some transaction pins a snapshot, the entries of jobs that have left an index cannot be removed from it, and lie at its
beginning: each look from there walks them again. A look is clean when it left nothing behind that was due. The next look begins
a little before the time of the last clean one: a transaction may take its time between its writes and its commit, and a row may
be locked. A look all the way, every two minutes, finds what took longer than that.
"""

from __future__ import annotations

import time
from typing import Final

ALL_THE_WAY_EVERY: Final = 120.0
"""Seconds between two looks all the way."""


class Lookback:
    """The looks at one index. `margin` is in seconds. Every look calls `seconds()` first, and `clean()` when nothing is left."""

    def __init__(self, margin: float = 60.0) -> None:
        self._margin = margin
        self.reset()

    def reset(self) -> None:
        """Look all the way the next time."""
        self._clean_at = self._all_at = float("-inf")
        self._looked_at = 0.0
        self._all = True

    def seconds(self) -> float | None:
        """How many seconds before now the look begins; None: at the beginning of the index."""
        self._looked_at = time.monotonic()
        self._all = self._looked_at - self._all_at > ALL_THE_WAY_EVERY
        return None if self._all else self._looked_at - self._clean_at + self._margin

    def clean(self) -> None:
        """The last look left nothing behind."""
        self._clean_at = self._looked_at
        if self._all:
            self._all_at = self._looked_at
