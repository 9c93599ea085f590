"""Which lanes a queue has, and from which position each is claimed. Pure: no clock, no database.

A lane is a priority. Jobs in a lane are ordered by position, which only grows: a job draws a new one each time it
becomes due. So claims of a lane move upwards, and what lies behind them is dead. While some transaction pins a
snapshot, the index entries of those dead rows cannot be removed, and a claim that started from the beginning would
walk all of them each time. Claims therefore start from a floor.

Two floors are kept for each lane:

    fast    where claims start: a little below the last batch. Something may still turn up below it, because a
            transaction that drew an early position committed late, or a claim was rolled back.
    safe    nothing can turn up below it any more. A survey looks for the first pending job at or above it, without
            locking, and pulls the fast floor back down when there is one.

The safe floor moves in two steps. A mark notes the last position drawn, and then takes a transaction number X. Whoever
drew a position up to the mark has a number below X (the enter trigger takes the number first). Once a later snapshot
shows that every transaction below X has ended, and sees no pending job below the mark, none can appear there.

Lanes are discovered, not declared: a survey also probes the gaps between the known ones, which costs one index descent
a gap because there is nothing in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

# Positions that concurrent claimers and inserters are typically in flight with; looking at them again costs nothing.
SLACK = 1_000

# Beyond this many lanes (a host that uses priorities as numbers, not as classes) the least used are forgotten.
MOST_LANES = 64

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


@dataclass(slots=True)
class _Lane:
    fast: int = 0
    safe: int = 0
    used: int = 0


class Lanes:
    """The lanes of one queue in one process."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}
        self._mark: tuple[int, int] | None = None
        self._turn = 0

    def reset(self) -> None:
        """Forget everything: after a reconnection the server may be another one, with earlier positions."""
        self._lanes.clear()
        self._mark = None

    def claim_from(self) -> tuple[list[int], list[int]]:
        """Priorities, highest first, and the position each is claimed from."""
        lanes = self._highest_first()
        return [priority for priority, _ in lanes], [lane.fast for _, lane in lanes]

    def survey_from(self) -> tuple[list[int], list[int]]:
        """Priorities, highest first, and their safe floors. Callable from any thread."""
        lanes = self._highest_first()
        return [priority for priority, _ in lanes], [lane.safe for _, lane in lanes]

    def _highest_first(self) -> list[tuple[int, _Lane]]:
        return sorted(self._lanes.copy().items(), reverse=True)

    def gaps(self) -> tuple[list[int], list[int]]:
        """Open intervals of priorities that hold no known lane: (lows, highs), highest first."""
        edges = [_HIGHEST, *sorted(self._lanes, reverse=True), _LOWEST]
        pairs = [(low, high) for high, low in pairwise(edges) if high - low > 1]
        return [low for low, _ in pairs], [high for _, high in pairs]

    def claimed(self, priority: int, first_position: int) -> None:
        """A batch of `priority` was leased, the lowest position in it being `first_position`."""
        self._turn += 1
        lane = self._lanes.setdefault(priority, _Lane())
        lane.fast = max(lane.fast, lane.safe, first_position - SLACK)
        lane.used = self._turn

    def surveyed(self, priorities: list[int], heads: list[int | None], found: list[int], oldest_running: int) -> bool:
        """Take in a survey: the first pending position of each lane surveyed, priorities found in gaps, and the oldest
        running transaction. Returns whether there is something to claim that the last claim did not see."""
        news = bool(found)
        proven = self._mark is not None and oldest_running >= self._mark[1]
        for priority, head in zip(priorities, heads, strict=True):
            lane = self._lanes.get(priority)
            if lane is None:
                continue
            if proven and self._mark is not None:
                bound = self._mark[0]
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
        return self._mark is None and bool(self._lanes)

    def mark(self, last_position: int, transaction: int) -> None:
        """Note that every position below `last_position` was drawn by a transaction numbered below `transaction`."""
        self._mark = (last_position, transaction)
