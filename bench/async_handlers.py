"""Async handlers: thousands that wait beside a bare asyncio.gather, and no-op jobs beside sync ones.

    python -m bench.async_handlers [--waits 2000] [--jobs 20000] [--rounds 5]

Each round is in a fresh database: `waits` jobs that each wait a second, and as many bare sleeps; `jobs` jobs that do
nothing, on the loop and then in threads. The memory is this process's peak, the worker and the measurement together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import shutil
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from jobqueue import migrations
from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.leash import reachable_folder, unprivileged_user
from jobqueue.kernel import Queue, Worker, WorkerOptions

if TYPE_CHECKING:
    from jobqueue.kernel import Context, Job

RESULTS = Path(__file__).parent / "results" / "async_handlers.json"

# Times as long as the bare gather; MiB; of the rate of sync handlers.
_LONGEST, _MOST_MEMORY, _SLOWEST = 1.5, 200, 0.6

# Threads of the worker for sync no-op jobs.
_THREADS = 50


@dataclass(frozen=True)
class Round:
    """Seconds of the waits, and no-op jobs a second."""

    gather_seconds: float
    waits_seconds: float
    async_jobs_a_second: float
    sync_jobs_a_second: float


async def wait(_job: Job, _context: Context) -> None:
    await asyncio.sleep(1)


async def nothing_async(_job: Job, _context: Context) -> None:
    """Do nothing."""


def nothing(_job: Job, _context: Context) -> None:
    """Do nothing."""


async def gather(waits: int) -> None:
    await asyncio.gather(*(asyncio.sleep(1) for _ in range(waits)))


def drain(postgres: Postgres, name: str, queue: Queue, jobs: int) -> float:
    """Work off `jobs` jobs that are due; returns the seconds, the start of the worker included."""
    dsn = postgres.create_database(name, template="async_handlers")
    with psycopg.connect(dsn, autocommit=True) as host:
        host.execute("INSERT INTO jobs (kind) SELECT 'nothing' FROM generate_series(1, %s)", [jobs])
        host.execute(b"VACUUM ANALYZE jobs")
        worker = Worker(WorkerOptions(dsn, concurrency=_THREADS), [queue])
        begun = time.perf_counter()
        worker.start()
        left = b"SELECT 1 FROM jobs WHERE status <> 'completed' LIMIT 1"
        while host.execute(left).fetchone():
            time.sleep(0.02)
        seconds = time.perf_counter() - begun
        worker.drain(5.0)
    postgres.drop_database(name)
    return seconds


def measure(postgres: Postgres, number: int, waits: int, jobs: int) -> Round:
    """One round of all."""
    begun = time.perf_counter()
    asyncio.run(gather(waits))
    bare = time.perf_counter() - begun
    return Round(
        bare,
        drain(postgres, f"waits_{number}", Queue("jobs", wait, limit=waits), waits),
        jobs / drain(postgres, f"async_{number}", Queue("jobs", nothing_async), jobs),
        jobs / drain(postgres, f"sync_{number}", Queue("jobs", nothing), jobs),
    )


def main() -> int:
    """Measure and print a table; exit code 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waits", type=int, default=2_000)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = reachable_folder("jobqueue-bench-", unprivileged_user())
    try:
        with Postgres(folder / "postgres") as postgres:
            migrations.migrate(postgres.create_database("async_handlers"))
            # The first warms up.
            rounds = [measure(postgres, number, options.waits, options.jobs) for number in range(options.rounds + 1)][
                1:
            ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    longer = statistics.median(one.waits_seconds / one.gather_seconds for one in rounds)
    rate = statistics.median(one.async_jobs_a_second / one.sync_jobs_a_second for one in rounds)
    goals = {
        f"{options.waits:,} waits of 1 s beside a bare gather": (longer, "at most", _LONGEST, longer <= _LONGEST),
        "peak memory, MiB": (memory, "under", _MOST_MEMORY, memory < _MOST_MEMORY),
        "no-op jobs beside sync ones": (rate, "at least", _SLOWEST, rate >= _SLOWEST),
    }
    for name, (found, word, goal, met) in goals.items():
        print(f"{name:42} {found:8.2f}   {word} {goal}{'' if met else ': missed'}")
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    document = {"machine": machine, "peak_memory_mib": round(memory, 1), "rounds": [asdict(one) for one in rounds]}
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(met for *_, met in goals.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
