"""Peak memory of a real worker at CONCURRENCY=3, and whether it stays flat over thousands of jobs.

    python -m bench.media.daemon_memory [--jobs 2000]

The worker is a process of its own with a real database, origin and object store. Peak is VmHWM of /proc; the flat run
publishes a mix of pictures and reads resident memory after each hundredth. MEMORY_BUDGET is as a container of 512 MiB
would have it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg

from bench.media.pictures import PROGRESSIVE, SOURCES, make
from jobqueue import migrations
from jobqueue.demo.demo_pictures import make_pictures
from jobqueue.demo.demo_stack import Stack

RESULTS = Path(__file__).parents[1] / "results" / "daemon_memory.json"
GOAL_MIB = 512
BUDGET = (512 - 144) * 1024 * 1024


def _mib(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _publish(connection: psycopg.Connection[Any], keys: list[str]) -> None:
    rows = [(uuid.uuid4(), key) for key in keys]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany("INSERT INTO auction_files (id, source_key) VALUES (%s, %s)", rows)
        cursor.executemany("INSERT INTO publish_jobs (file_id) VALUES (%s)", [(id_,) for id_, _ in rows])


def _wait(connection: psycopg.Connection[Any], left: int = 0) -> None:
    query = "SELECT count(*) FROM publish_jobs WHERE status IN ('pending', 'processing')"
    while (connection.execute(query).fetchone() or (0,))[0] > left:
        time.sleep(0.1)


def run(folder: Path, keys: list[str], jobs: int) -> dict[str, Any]:
    """Publish `jobs` pictures of `folder` in one worker; returns its peak and its resident memory along the way, in MiB."""
    resident = []
    with Stack(folder) as stack:
        environ = stack.environment() | {"CONCURRENCY": "3", "LOG_LEVEL": "error", "MEMORY_BUDGET": str(BUDGET)}
        migrations.migrate(environ["DATABASE_URL"])
        with psycopg.connect(environ["DATABASE_URL"], autocommit=True) as connection:
            _publish(connection, [keys[number % len(keys)] for number in range(jobs)])
            worker = subprocess.Popen(
                [sys.executable, "-m", "jobqueue", "worker"], env=environ, stdout=subprocess.DEVNULL
            )
            try:
                for left in range(jobs - jobs // 20, -1, -max(1, jobs // 20)):
                    _wait(connection, left)
                    resident.append(round(_mib(worker.pid, "VmRSS")))
                peak = _mib(worker.pid, "VmHWM")
            finally:
                worker.terminate()
                worker.wait()
            failed = connection.execute("SELECT count(*) FROM publish_jobs WHERE status <> 'completed'").fetchone()
    return {"jobs": jobs, "peak_mib": round(peak), "resident_mib": resident, "not_completed": (failed or (0,))[0]}


def main() -> int:
    """Measure and print; exit code 1 when a peak is above the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    options = parser.parse_args()
    results = {}
    for source in (next(s for s in SOURCES if s.name == "48mp.jpg"), PROGRESSIVE):
        folder = Path(tempfile.mkdtemp(prefix="jobqueue-bench-"))
        folder.chmod(0o755)
        shutil.copy(make(source), folder / source.name)
        results[source.name] = run(folder, [source.name], 30)
        shutil.rmtree(folder)
        print(source.name, results[source.name], flush=True)
    folder = Path(tempfile.mkdtemp(prefix="jobqueue-bench-"))
    folder.chmod(0o755)
    make_pictures(folder)
    keys = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    keys = [key for key in keys if "cut short" not in key and "400 megapixels" not in key]
    results["mixed"] = run(folder, keys, options.jobs)
    shutil.rmtree(folder)
    print("mixed", results["mixed"], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(result["peak_mib"] < GOAL_MIB for result in results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
