"""A transaction that holds a snapshot while jobs are enqueued and worked without pause: dead rows cannot be removed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import IsolationLevel

from bench.queues.feed import Feed, done_at, fill
from bench.queues.processes import DriverError, Worker

if TYPE_CHECKING:
    from pathlib import Path

    from bench.queues.installed import Installed
    from bench.queues.server import Server

_LEAD_IN = 1.0


@dataclass(frozen=True)
class Pinned:
    """Jobs per second in the first and in the last sixth of the time; dead rows of the largest table at its end."""

    first: float
    last: float
    dead_rows: int

    @property
    def kept(self) -> float:
        return self.last / self.first


def pinned(server: Server, peer: Installed, template: str, seconds: float, log: Path) -> Pinned:
    """One worker for `seconds` under a snapshot that is as old as the load."""
    with server.database(template) as dsn, psycopg.connect(dsn) as holder:
        fill(peer, dsn, peer.peer.jobs)
        server.settle(dsn)
        holder.isolation_level = IsolationLevel.REPEATABLE_READ
        holder.execute("SELECT count(*) FROM pg_class")
        worker = Worker(peer, dsn, log).wait_ready()
        feed = Feed(peer, dsn, [worker])
        feed.start()
        try:
            while not worker.first:
                if not worker.running:
                    raise DriverError(f"{peer.name} ended: {worker.said()}")
                time.sleep(0.01)
            began = worker.first + _LEAD_IN
            time.sleep(max(0.0, began + seconds - time.time()) + 0.2)
            dead = int(server.fetch(dsn, "SELECT coalesce(max(n_dead_tup), 0) FROM pg_stat_user_tables"))
        finally:
            # The worker first: a feed that waits for a lock of its ends then.
            worker.kill()
            feed.stop()
    window = seconds / 6
    points = [done_at(worker.samples, began + at) for at in (0.0, window, seconds - window, seconds)]
    return Pinned((points[1] - points[0]) / window, (points[3] - points[2]) / window, dead)
