"""How soon a worker begins: insert to start, and insert to published.

    python -m bench.latency [--starts 200] [--pictures 50]

Both begin before the INSERT is sent and end in another process. The first ends when a handler that does nothing is
called, on a worker that was idle. The second ends when `auction_files` says `published` for a 2-megapixel JPEG, with a
daemon, origin and object store on this machine; it is looked for every two milliseconds. One job at a time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from jobqueue import migrations
from jobqueue.demo.demo_stack import Stack
from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.landscape import NOON, Scene, landscape
from jobqueue.demo.leash import Leash, reachable_folder, unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "latency.json"
START_GOAL_MS, PUBLISHED_GOAL_MS = 50.0, 1000.0

# A photograph of 2.0 megapixels.
WIDTH, HEIGHT = 1732, 1155

_WORKER = """
import os, time
from jobqueue.kernel import Queue, Worker, WorkerOptions

def begin(job, context):
    began = time.time_ns()
    os.write(1, f"{job.id} {began}\\n".encode())

worker = Worker(WorkerOptions(os.environ["DATABASE_URL"]), [Queue("jobs", begin)])
worker.start()
os.write(1, b"ready\\n")
while True:
    time.sleep(3600)
"""


@dataclass(frozen=True)
class Figures:
    """Milliseconds; `goal` is for the 99th percentile."""

    name: str
    count: int
    p50: float
    p99: float
    longest: float
    goal: float

    @property
    def reached(self) -> bool:
        return self.p99 < self.goal


def summarise(name: str, milliseconds: list[float], goal: float) -> Figures:
    """The figures of one measurement. Percentiles are nearest-rank: a value that was measured, never one between two."""
    ordered = sorted(milliseconds)

    def percentile(share: float) -> float:
        return ordered[math.ceil(len(ordered) * share / 100) - 1]

    return Figures(name, len(ordered), round(percentile(50), 1), round(percentile(99), 1), round(ordered[-1], 1), goal)


def rest() -> None:
    """Let the worker come to rest, for a time that falls in step with nothing."""
    time.sleep(random.uniform(0.02, 0.08))


def measure_starts(count: int) -> list[float]:
    """Milliseconds from an INSERT to the call of its handler, `count` times."""
    folder = reachable_folder("jobqueue-bench-", unprivileged_user())
    with Postgres(folder / "postgres") as postgres:
        migrations.migrate(postgres.dsn)
        worker = Leash(
            [sys.executable, "-c", _WORKER],
            log=None,
            error_log=folder / "worker.log",
            env={**os.environ, "DATABASE_URL": postgres.dsn, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            if worker.stdout.readline() != b"ready\n":
                raise SystemExit((folder / "worker.log").read_text())
            with psycopg.connect(postgres.dsn, autocommit=True) as host:
                return [_one_start(host, worker) for _ in range(count + 5)][5:]
        finally:
            worker.stop()
            shutil.rmtree(folder, ignore_errors=True)


def _one_start(host: psycopg.Connection[tuple[int]], worker: Leash) -> float:
    rest()
    inserted = time.time_ns()
    host.execute("INSERT INTO jobs (kind) VALUES ('nothing')")
    _, began = worker.stdout.readline().split()
    return (int(began) - inserted) / 1e6


def measure_published(count: int) -> list[float]:
    """Milliseconds from the INSERTs of a file and its job to `published`, for `count` different pictures."""
    with tempfile.TemporaryDirectory(prefix="jobqueue-bench-") as folder:
        pictures = Path(folder)
        photograph = landscape(WIDTH, HEIGHT, Scene(NOON, 7, water=True))
        for number in range(count + 3):
            brighter = (photograph + number % 40 / 4 + number // 40).cast("uchar")
            brighter.jpegsave(str(pictures / f"{number}.jpg"), Q=90)
        with Stack(pictures) as stack:
            migrations.migrate(stack.postgres.dsn)
            worker = stack.run("worker", log=stack.folder / "worker.log")
            try:
                with psycopg.connect(stack.postgres.dsn, autocommit=True) as host:
                    _wait(lambda: host.execute("SELECT FROM jobqueue.workers").rowcount == 1)
                    # The first few pay for what is made once: connections, clients, code that was never run before.
                    return [_one_published(host, f"{number}.jpg") for number in range(count + 3)][3:]
            finally:
                worker.stop()


def _one_published(host: psycopg.Connection[tuple[int]], key: str) -> float:
    rest()
    begun = time.perf_counter()
    host.execute(
        "WITH file AS (INSERT INTO auction_files (source_key) VALUES (%s) RETURNING id)"
        " INSERT INTO publish_jobs (file_id) SELECT id FROM file",
        [key],
    )
    published = "SELECT FROM auction_files WHERE source_key = %s AND publish_status = 'published'"
    _wait(lambda: host.execute(published, [key]).rowcount == 1)
    return (time.perf_counter() - begun) * 1000


def _wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing happened for {seconds:.0f} s")
        time.sleep(0.002)


def main() -> int:
    """Measure both and print a table; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=50)
    options = parser.parse_args()
    rows = [
        summarise("insert to start", measure_starts(options.starts), START_GOAL_MS),
        summarise("insert to published, 2 MP JPEG", measure_published(options.pictures), PUBLISHED_GOAL_MS),
    ]
    print(f"{'milliseconds':32} {'count':>6} {'p50':>8} {'p99':>8} {'longest':>8}  goal for p99")
    for row in rows:
        verdict = "reached" if row.reached else "MISSED"
        print(
            f"{row.name:32} {row.count:6} {row.p50:8.1f} {row.p99:8.1f} {row.longest:8.1f}  < {row.goal:.0f}: {verdict}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    RESULTS.write_text(json.dumps({"machine": machine, "milliseconds": [asdict(row) for row in rows]}, indent=2) + "\n")
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
