"""What it costs to keep every attempt: no-op jobs drained with `keep_attempts="all"` beside those that did not complete.

    python -m bench.attempts [--jobs 20000] [--rounds 5]

Both in alternating rounds, each in a fresh database: jobs a second, WAL a job, and after each round
with all kept the bytes of a row and of its entries in the indexes. Rows have stages as a picture's have.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
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
    from jobqueue.kernel.database.rows import KeepAttempts

RESULTS = Path(__file__).parent / "results" / "attempts.json"

_STAGES = {"download": 0.0513, "decode": 0.1021, "encode": 0.2507, "upload": 0.0805, "commit": 0.0042}


@dataclass(frozen=True)
class Round:
    """One drain. `row_bytes` and `index_bytes` are of an attempt, None where none was kept."""

    kept: str
    jobs_a_second: float
    wal_bytes_a_job: float
    row_bytes: float | None
    index_bytes: float | None


def staged(_job: Job, context: Context) -> None:
    """Do nothing, and say how long it took."""
    context.stages.update(_STAGES)


def drain(postgres: Postgres, name: str, kept: KeepAttempts, jobs: int) -> Round:
    """Work off `jobs` jobs that are due."""
    dsn = postgres.create_database(name, template="attempts")
    with psycopg.connect(dsn, autocommit=True) as host:
        host.execute("INSERT INTO jobs (kind) SELECT 'nothing' FROM generate_series(1, %s)", [jobs])
        host.execute(b"VACUUM ANALYZE jobs")
        host.execute(b"CHECKPOINT")
        before = host.execute(b"SELECT pg_current_wal_lsn()").fetchall()[0][0]
        begun = time.perf_counter()
        options = WorkerOptions(dsn, concurrency=20)
        worker = Worker(options, [Queue("jobs", staged, keep_attempts=kept)])
        worker.start()
        done = b"SELECT count(*) FILTER (WHERE status <> 'completed') FROM jobs"
        while not (worker.idle and host.execute(done).fetchall()[0][0] == 0):
            time.sleep(0.02)
        seconds = time.perf_counter() - begun
        worker.drain(5.0)
        [(wal,)] = host.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)::float8", [before]).fetchall()
        [(rows, table, indexes)] = host.execute(
            b"""SELECT count(*), pg_table_size('jobqueue.attempts'), pg_indexes_size('jobqueue.attempts')
                FROM jobqueue.attempts"""
        ).fetchall()
    postgres.drop_database(name)
    if rows != (jobs if kept == "all" else 0):
        raise SystemExit(f"{rows} attempts were kept of {jobs}")
    return Round(kept, jobs / seconds, wal / jobs, table / rows if rows else None, indexes / rows if rows else None)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = reachable_folder("jobqueue-bench-", unprivileged_user())
    rounds: list[Round] = []
    try:
        with Postgres(folder / "postgres") as postgres:
            migrations.migrate(postgres.create_database("attempts"))
            rounds += [
                drain(postgres, f"round_{number}", "all" if number % 2 else "failed", options.jobs)
                for number in range(2 * options.rounds + 1)
            ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    # The first warms up.
    few, every = ([a for a in rounds[1:] if a.kept == kept] for kept in ("failed", "all"))
    print(f"{'kept':8} {'jobs/s':>8} {'WAL a job':>10} {'row':>6} {'indexes':>8}")
    for name, some in (("failed", few), ("all", every)):
        speed, wal = (
            statistics.median(values)
            for values in zip(*((a.jobs_a_second, a.wal_bytes_a_job) for a in some), strict=True)
        )
        print(f"{name:8} {speed:8.0f} {wal:10.0f} {some[0].row_bytes or 0:6.0f} {some[0].index_bytes or 0:8.0f}")
    ratio = statistics.median(b.jobs_a_second / a.jobs_a_second for a, b in zip(few, every, strict=True))
    print(f"all beside failed: {ratio:.2f}, median of {options.rounds} pairs")
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    RESULTS.write_text(json.dumps({"machine": machine, "rounds": [asdict(one) for one in rounds[1:]]}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
