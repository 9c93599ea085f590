"""Workers under a load that does not end: jobs are written as fast as they are worked off."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.queues.processes import DriverError, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.queues.installed import Installed
    from bench.queues.processes import Worker

# Jobs that are kept waiting, in those that one process works off in about two seconds (`Peer.jobs`).
_AHEAD = 2


class Feed:
    """Keeps jobs waiting for `workers`, written straight into the peer's tables so that this takes little from them."""

    def __init__(self, peer: Installed, dsn: str, workers: Sequence[Worker]) -> None:
        self._peer = peer
        self._dsn = dsn
        self._workers = workers
        self._stopped = threading.Event()
        self._failed: DriverError | None = None
        self._written = 0
        self._thread = threading.Thread(target=self._write, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Raises DriverError when writing has failed."""
        self._stopped.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _write(self) -> None:
        chunk = self._peer.peer.jobs
        try:
            while not self._stopped.is_set():
                if self._written - sum(worker.count for worker in self._workers) < _AHEAD * chunk:
                    fill(self._peer, self._dsn, chunk)
                    self._written += chunk
                else:
                    self._stopped.wait(0.1)
        except DriverError as error:
            self._failed = error


def fill(peer: Installed, dsn: str, count: int) -> None:
    """Write `count` due jobs."""
    command(peer, "fill", "--dsn", dsn, "--kind", "pending", "--count", str(count))


def done_at(samples: Sequence[tuple[float, int]], moment: float) -> float:
    """Jobs done at `moment`, on the line between the samples (time, count) before and after it."""
    if not samples or moment <= samples[0][0]:
        return 0.0
    for (before, done), (after, more) in pairwise(samples):
        if before <= moment < after:
            return done + (more - done) * (moment - before) / (after - before)
    return float(samples[-1][1])


def time_of(samples: Sequence[tuple[float, int]], count: float) -> float:
    """When `count` jobs were done, the same way. Raises ValueError when they never were."""
    for (before, done), (after, more) in pairwise(samples):
        if done <= count <= more and more > done:
            return before + (after - before) * (count - done) / (more - done)
    raise ValueError(f"{count} jobs were never done")


def together(workers: Sequence[Worker]) -> list[tuple[float, int]]:
    """The samples of several workers as one series of sums."""
    moments = sorted((at, number, count) for number, worker in enumerate(workers) for at, count in worker.samples)
    counts = [0] * len(workers)
    series = []
    for at, number, count in moments:
        counts[number] = count
        series.append((at, sum(counts)))
    return series
