"""How soon an idle worker begins a job: from the commit of its insert to the start of its handler, in two processes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.queues.processes import DriverError, Worker, command

if TYPE_CHECKING:
    from pathlib import Path

    from bench.queues.installed import Installed
    from bench.queues.server import Server

EVERY = 0.05

# Jobs at the start that pay for what is made once, and are left out.
_WARM_UP = 10

# Seconds in which a worker that is ready comes to rest.
_REST = 2.0


@dataclass(frozen=True)
class PickUp:
    """Milliseconds, nearest-rank percentiles."""

    p50: float
    p99: float


def pick_up(server: Server, peer: Installed, template: str, count: int, log: Path) -> PickUp:
    """`count` jobs, one every 50 ms, on one worker that has nothing else to do."""
    with server.database(template) as dsn:
        server.settle(dsn)
        worker = Worker(peer, dsn, log, "--report").wait_ready()
        try:
            time.sleep(_REST)
            total = count + _WARM_UP
            said = command(peer, "trickle", "--dsn", dsn, "--count", str(total), "--every", str(EVERY))
            sent = {int(number): float(at) for _, number, at in (line.split() for line in said.splitlines())}
            deadline = time.monotonic() + 30.0
            while len(worker.began) < total and time.monotonic() < deadline:
                time.sleep(0.05)
            worker.stop()
        except BaseException:
            worker.kill()
            raise
    if missing := sent.keys() - worker.began.keys():
        raise DriverError(f"{peer.name} did not begin {len(missing)} of {total} jobs: {worker.said()}")
    return summarise([(worker.began[number] - at) * 1000 for number, at in sorted(sent.items())[_WARM_UP:]])


def summarise(milliseconds: list[float]) -> PickUp:
    """The percentiles. A handler may begin before the sender has its answer: that is no time at all, not less."""
    ordered = sorted(max(0.0, value) for value in milliseconds)
    p50, p99 = (ordered[math.ceil(len(ordered) * share / 100) - 1] for share in (50, 99))
    return PickUp(round(p50, 2), round(p99, 2))
