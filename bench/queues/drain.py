"""A run: jobs that were enqueued beforehand are worked off, and how fast is found out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from bench.queues.feed import done_at
from bench.queues.processes import DriverError, Worker, command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.queues.installed import Installed
    from bench.queues.server import Server

# The database is asked whether work remains this long before handlers are expected to be through, every few milliseconds.
_ASK_AHEAD = 0.15
_ASK_EVERY = 0.004

# Seconds without any progress after which a run has failed.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Drain:
    """What one run gave. `rate` is jobs per second until all were recorded; `handled` until their handlers had ended."""

    rate: float
    handled: float
    wal_bytes_per_job: float
    commits_per_job: float


def drain(server: Server, peer: Installed, template: str, count: int, processes: int, log: Path) -> Drain:
    """Enqueue `count` jobs in a copy of `template`, and work them off with so many processes.

    The clock starts when the last process has begun its first job, less what was done before, and stops when the
    peer's tables hold no job that is not recorded as finished.
    """
    with server.database(template) as dsn:
        command(peer, "enqueue", "--dsn", dsn, "--count", str(count))
        server.settle(dsn)
        remaining = command(peer, "remaining", "--dsn", dsn).strip()
        before = server.cost(dsn)
        workers = [Worker(peer, dsn, log) for _ in range(processes)]
        try:
            ended = wait_drained(dsn, remaining, workers, count)
        except BaseException:
            for worker in workers:
                worker.kill()
            raise
        for worker in workers:
            worker.stop()
        after = server.cost(dsn)
    active = [worker for worker in workers if worker.first]
    began, done_before = all_began(active, count)
    handled = count / (max(worker.last for worker in active) - min(worker.first for worker in active))
    return Drain(
        rate=(count - done_before) / (ended - began),
        handled=handled,
        wal_bytes_per_job=(after.wal_bytes - before.wal_bytes) / count,
        commits_per_job=(after.commits - before.commits) / count,
    )


def work_some(server: Server, peer: Installed, template: str, count: int, enqueue: int, log: Path) -> float:
    """One process's rate over its first `count` handlers in a copy of `template`, after `enqueue` jobs more came in."""
    with server.database(template) as dsn:
        if enqueue:
            command(peer, "enqueue", "--dsn", dsn, "--count", str(enqueue))
        server.settle(dsn)
        worker = Worker(peer, dsn, log)
        try:
            _wait_progress([worker], lambda: worker.count >= count, "jobs are due")
            done, seconds = worker.count, worker.last - worker.first
        finally:
            worker.kill()
    return done / seconds


def wait_drained(dsn: str, remaining: str, workers: Sequence[Worker], count: int) -> float:
    """Return the time (epoch seconds) at which the database first says that nothing remains of `count` jobs."""

    def nearly() -> bool:
        done = sum(worker.count for worker in workers)
        running = [worker for worker in workers if worker.first]
        if done >= count or not running:
            return done >= count
        seconds = time.time() - min(worker.first for worker in running)
        return done + done / max(seconds, 0.001) * _ASK_AHEAD >= count

    _wait_progress(workers, nearly, f"jobs of {count} are left")
    with psycopg.connect(dsn, autocommit=True) as connection:

        def drained() -> bool:
            row = connection.execute(remaining.encode()).fetchone()
            return row is not None and not row[0]

        _wait_progress(workers, drained, "jobs are not recorded")
    return time.time()


def all_began(workers: Sequence[Worker], count: int) -> tuple[float, int]:
    """When the last worker began, and how many jobs the others had done by then; one that began when more than half of
    `count` were done is left out: it is not what the others waited for."""
    for worker in sorted(workers, key=lambda worker: worker.first, reverse=True):
        done = round(sum(done_at([(other.first, 0), *other.samples], worker.first) for other in workers))
        if done <= count / 2:
            break
    return worker.first, done


def _wait_progress(workers: Sequence[Worker], reached: Callable[[], bool], what: str) -> None:
    seen, moved = -1, time.monotonic()
    while not reached():
        done, now = sum(worker.count for worker in workers), time.monotonic()
        if done != seen:
            seen, moved = done, now
        ended = [worker for worker in workers if not worker.running]
        if ended or now - moved > _PATIENCE:
            state = "ended" if ended else f"has done nothing for {_PATIENCE:.0f} s"
            raise DriverError(f"{workers[0].name} {state} after {done} jobs while {what}: {workers[0].said()}")
        time.sleep(_ASK_EVERY)
