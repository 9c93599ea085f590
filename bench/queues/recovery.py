"""A worker is killed with jobs in flight while another one runs: how soon they have run again, and how fast it is then."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from bench.queues.feed import done_at, fill, time_of, together
from bench.queues.processes import DriverError, Worker, command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.queues.installed import Installed
    from bench.queues.server import Server

_REST = 1.0

# Jobs of a phase, in those that one process works off in about two seconds (`Peer.jobs`).
_PHASE = 2

# Seconds that the server has been up: right after a restart of it a queue may rightly wait before it calls a worker dead.
_SERVER_AGE = 90.0

# A kill may find nothing in flight, and tells nothing then: one that is over within so many seconds is tried again.
_KILLS = 3
_TELLING = 1.0

# Seconds over which it is seen who is busy.
_LATELY = 0.3

# Seconds within which two healthy workers must have worked off a phase.
_PATIENCE = 120.0


@dataclass(frozen=True)
class Recovery:
    """`seconds` from the kill until nothing was left undone, None when that took longer than was waited; rates of two
    workers before the kill and, with a new one in the dead one's place, after the recovery."""

    seconds: float | None
    before: float
    after: float | None


def recovery(server: Server, peer: Installed, template: str, wait: float, log: Path) -> Recovery:
    """Two workers; the busier dies in the middle of the second phase, and is replaced for the third if all is recovered.

    Jobs are written into the tables at once while the workers are idle: a phase begins with that and ends when nothing
    remains. Settings that decide about lost workers are the peer's defaults.
    """
    count = _PHASE * peer.peer.jobs
    server.wait_until_old(_SERVER_AGE)
    with server.database(template) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        query = command(peer, "remaining", "--dsn", dsn).strip().encode()

        def remains() -> bool:
            row = connection.execute(query).fetchone()
            return row is not None and bool(row[0])

        server.settle(dsn)
        workers = [Worker(peer, dsn, log) for _ in range(2)]
        everyone = list(workers)
        try:
            for worker in workers:
                worker.wait_ready()
            time.sleep(_REST)
            before = _phase(peer, dsn, workers, count, remains)
            for _ in range(_KILLS):
                start = _done(workers)
                fill(peer, dsn, count)
                _wait(partial(_is_done, workers, start + count // 2), workers)
                victim = _busier(workers)
                killed = time.time()
                workers[victim].kill()
                seconds = _recovered(killed, wait, workers[1 - victim], remains)
                workers[victim] = Worker(peer, dsn, log).wait_ready()
                everyone.append(workers[victim])
                if seconds is None or seconds > _TELLING:
                    break
            time.sleep(_REST)
            after = None if seconds is None else _phase(peer, dsn, workers, count, remains)
        finally:
            for worker in everyone:
                worker.kill()
    return Recovery(seconds, before, after)


def _busier(workers: Sequence[Worker]) -> int:
    """Which of two did more in the last moments: some peers let one process claim nearly everything for a while."""
    since = time.time() - _LATELY
    return max((0, 1), key=lambda number: workers[number].count - done_at(workers[number].samples, since))


def _phase(peer: Installed, dsn: str, workers: Sequence[Worker], count: int, remains: Callable[[], bool]) -> float:
    """Work off `count` jobs; the rate between a tenth and nine tenths of them, when everybody is busy."""
    start = _done(workers)
    fill(peer, dsn, count)
    _wait(lambda: _done(workers) >= start + count and not remains(), workers)
    series = together(workers)
    ends = [time_of(series, start + share * count) for share in (0.1, 0.9)]
    return 0.8 * count / (ends[1] - ends[0])


def _recovered(killed: float, wait: float, survivor: Worker, remains: Callable[[], bool]) -> float | None:
    while time.time() < killed + wait:
        if not remains():
            return time.time() - killed
        if not survivor.running:
            raise DriverError(f"{survivor.name} ended after its neighbour was killed: {survivor.said()}")
        time.sleep(0.05)
    return None


def _is_done(workers: Sequence[Worker], count: int) -> bool:
    return _done(workers) >= count


def _done(workers: Sequence[Worker]) -> int:
    return sum(worker.count for worker in workers)


def _wait(reached: Callable[[], bool], workers: Sequence[Worker]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not reached():
        ended = [worker for worker in workers if not worker.running]
        if ended or time.monotonic() > deadline:
            raise DriverError(f"{workers[0].name} did not get through: {workers[0].said()}")
        time.sleep(0.01)
