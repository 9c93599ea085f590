"""Which lanes a queue has, and from which position each is claimed. Pure: no clock, no database.

A lane is a priority. Jobs in a lane are ordered by position, which only grows: a job draws a new one each time it
becomes due. So claims of a lane move upwards, and leave dead rows behind. While some transaction pins a snapshot, the
index entries of those rows cannot be removed, and a claim that started from the beginning would walk all of them each
time. Claims therefore start from a floor.

Each lane has two floors:

    fast    Claims start here, a little below the last batch. A job may still appear below it: a transaction that drew
            an early position committed late, or a claim was rolled back.
    safe    No job can appear below it any more. A survey looks for the first pending job at or above it, without
            locking, and pulls the fast floor down to that job.

The safe floor moves in two steps. A mark notes the last position drawn, and then takes a transaction number X. Whoever
drew a position up to the mark has a number below X (the enter trigger takes the number first). A later snapshot shows
that every transaction below X has ended, and sees no pending job below the mark: now none can appear there.

Lanes are discovered, not declared. A survey also probes the gaps between the known lanes; an empty gap costs one index
descent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from jobqueue.kernel.database.rows import LaneFloors, LaneGaps

# Concurrent claimers and inserters typically hold about so many positions in flight; to look at them again costs nothing.
SLACK = 1_000

# A host may use priorities as numbers instead of classes: beyond this many lanes the least used are forgotten.
MOST_LANES = 64

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


@dataclass(slots=True)
class _Lane:
    fast: int = 0
    safe: int = 0
    used: int = 0


class _Mark(NamedTuple):
    """Whoever drew a position up to `position` has a transaction number below `transaction`."""

    position: int
    transaction: int


class Lanes:
    """The lanes of one queue in one process."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}
        self._mark: _Mark | None = None
        self._turn = 0

    def reset(self) -> None:
        """Forget everything: after a reconnection the server may be another one, with earlier positions."""
        self._lanes.clear()
        self._mark = None

    def claim_from(self) -> LaneFloors:
        """The lanes with their fast floors."""
        lanes = self._highest_first()
        return LaneFloors([priority for priority, _ in lanes], [lane.fast for _, lane in lanes])

    def survey_from(self) -> LaneFloors:
        """The lanes with their safe floors. Callable from any thread."""
        lanes = self._highest_first()
        return LaneFloors([priority for priority, _ in lanes], [lane.safe for _, lane in lanes])

    def _highest_first(self) -> list[tuple[int, _Lane]]:
        return sorted(self._lanes.copy().items(), reverse=True)

    def gaps(self) -> LaneGaps:
        """Where a survey looks for lanes that are not known yet."""
        edges = [_HIGHEST, *sorted(self._lanes, reverse=True), _LOWEST]
        pairs = [(low, high) for high, low in pairwise(edges) if high - low > 1]
        return LaneGaps([low for low, _ in pairs], [high for _, high in pairs])

    def claimed(self, priority: int, first_position: int) -> None:
        """A batch of `priority` was leased, the lowest position in it being `first_position`."""
        self._turn += 1
        lane = self._lanes.setdefault(priority, _Lane())
        lane.fast = max(lane.fast, lane.safe, first_position - SLACK)
        lane.used = self._turn

    def surveyed(self, priorities: list[int], heads: list[int | None], found: list[int], oldest_running: int) -> bool:
        """Take in a survey of the lanes `priorities`; the rest is as in Survey.

        Returns whether there is something to claim that the last claim did not see.
        """
        news = bool(found)
        proven = self._mark is not None and oldest_running >= self._mark.transaction
        for priority, head in zip(priorities, heads, strict=True):
            lane = self._lanes.get(priority)
            if lane is None:
                continue
            if proven and self._mark is not None:
                bound = self._mark.position
                lane.safe = max(lane.safe, bound if head is None else min(head, bound))
                lane.fast = max(lane.fast, lane.safe)
            if head is not None:
                news = news or head < lane.fast
                lane.fast = min(lane.fast, head)
        if proven:
            self._mark = None
        for priority in found:
            self._lanes.setdefault(priority, _Lane(used=self._turn))
        while len(self._lanes) > MOST_LANES:
            del self._lanes[min(self._lanes, key=lambda p: self._lanes[p].used)]
        return news

    @property
    def wants_mark(self) -> bool:
        """Whether a safe floor can move only after another mark."""
        return self._mark is None and bool(self._lanes)

    def mark(self, last_position: int, transaction: int) -> None:
        """Note that every position below `last_position` was drawn by a transaction numbered below `transaction`."""
        self._mark = _Mark(last_position, transaction)
