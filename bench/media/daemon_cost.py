"""What a picture costs the whole daemon, from claim to commit, beside the bare libvips work for it.

The daemon is a real process with a real database, origin and object store; its CPU seconds are read before the first
job and after the last, so that start-up does not count. The bare work is `variants.render` in a process of its own, the
same number of times. Rounds alternate; medians are reported, as a ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg

from bench.media.pictures import SOURCES, make
from jobqueue import migrations
from jobqueue.demo.demo_stack import Stack

RESULTS = Path(__file__).parents[1] / "results" / "daemon_cost.json"
GOAL = 1.15


def bare(path: Path, repeats: int) -> float:
    """CPU seconds a picture of probing and rendering `path`, in this process."""
    from jobqueue.media.formats import probe, sniff  # noqa: PLC0415 - libvips must not be in the parent
    from jobqueue.media.variants import render  # noqa: PLC0415

    def once() -> None:
        render(path, probe(path, sniff(path), max_pixels=200_000_000))

    once()
    before = _own_seconds()
    for _ in range(repeats):
        once()
    return (_own_seconds() - before) / repeats


def _own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _process_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def daemon(folder: Path, keys: list[str], rounds: int, between: Any) -> list[float]:
    """CPU seconds a picture of a worker that publishes every key once, for each round; `between()` runs after each."""
    figures = []
    with Stack(folder) as stack:
        environ = stack.environment() | {"LOG_LEVEL": "info", "CONCURRENCY": "2", "MAX_SOURCE_PIXELS": "200000000"}
        dsn = environ["DATABASE_URL"]
        migrations.migrate(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobqueue", "worker"], env=environ, stdout=subprocess.DEVNULL
            )
            try:
                _publish(connection, keys[:1])
                for _ in range(rounds):
                    before = _process_seconds(process.pid)
                    _publish(connection, keys)
                    figures.append((_process_seconds(process.pid) - before) / len(keys))
                    between()
            finally:
                process.terminate()
                process.wait()
    return figures


def _publish(connection: psycopg.Connection[Any], keys: list[str]) -> None:
    with connection.transaction():
        for key in keys:
            file_id = uuid.uuid4()
            connection.execute("INSERT INTO auction_files (id, source_key) VALUES (%s, %s)", [file_id, key])
            connection.execute("INSERT INTO publish_jobs (file_id) VALUES (%s)", [file_id])
    waiting = "SELECT count(*) FILTER (WHERE status IN ('pending', 'processing')), count(*) FILTER (WHERE status = 'failed') FROM publish_jobs"
    while True:
        left, failed = connection.execute(waiting).fetchone() or (0, 0)
        if failed:
            raise SystemExit(
                str(connection.execute("SELECT error_message FROM publish_jobs WHERE status = 'failed'").fetchone())
            )
        if not left:
            return
        time.sleep(0.05)


def main() -> int:
    """Measure each source of the media benchmark and print a table; exit code 1 when a ratio is above the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(bare(options.bare, options.pictures))
        return 0
    rows = {}
    for source in SOURCES:
        path = make(source)
        folder = Path(tempfile.mkdtemp(prefix="jobqueue-bench-"))
        folder.chmod(0o755)
        keys = [f"{number}{path.suffix}" for number in range(options.pictures)]
        for key in keys:
            shutil.copy(path, folder / key)
        bare_figures: list[float] = []

        def measure_bare(path: Path = path, figures: list[float] = bare_figures) -> None:
            command = [
                sys.executable,
                "-m",
                "bench.media.daemon_cost",
                "--bare",
                str(path),
                "--pictures",
                str(options.pictures),
            ]
            figures.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

        whole = daemon(folder, keys, options.rounds, measure_bare)
        shutil.rmtree(folder)
        ratio = statistics.median(whole) / statistics.median(bare_figures)
        rows[source.name] = {
            "daemon_cpu_seconds": round(statistics.median(whole), 4),
            "bare_cpu_seconds": round(statistics.median(bare_figures), 4),
            "ratio": round(ratio, 3),
        }
        print(
            f"{source.name:24} daemon {statistics.median(whole):.3f}  bare {statistics.median(bare_figures):.3f}  ratio {ratio:.3f}",
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if all(row["ratio"] <= GOAL for row in rows.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
