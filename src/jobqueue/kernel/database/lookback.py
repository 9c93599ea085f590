"""How far back to look for what has become due, in an index ordered by time.

While some transaction pins a snapshot, the entries of jobs that have left an index cannot be removed from it, and lie at its
beginning: looked for from there, they are walked again each time. So a look that follows a clean one, which left nothing behind
that was due, begins where that one was, and a little before: a transaction may take its time between what it writes and its
commit, and a row may be locked. Whatever took longer than that is found by looking all the way, every two minutes.
"""

from __future__ import annotations

import time
from typing import Final

ALL_THE_WAY_EVERY: Final = 120.0
"""Seconds between two looks all the way."""


class Lookback:
    """Of one index. `margin` is in seconds. Every look asks for `seconds()` first, and calls `clean()` when nothing is left."""

    def __init__(self, margin: float = 60.0) -> None:
        self._margin = margin
        self.reset()

    def reset(self) -> None:
        """Look all the way the next time."""
        self._clean_at = self._all_at = float("-inf")
        self._looked_at = 0.0
        self._all = True

    def seconds(self) -> float | None:
        """How many seconds before now to begin; None: at the beginning."""
        self._looked_at = time.monotonic()
        self._all = self._looked_at - self._all_at > ALL_THE_WAY_EVERY
        return None if self._all else self._looked_at - self._clean_at + self._margin

    def clean(self) -> None:
        """The look that was asked for last left nothing behind."""
        self._clean_at = self._looked_at
        if self._all:
            self._all_at = self._looked_at
