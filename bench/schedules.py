"""Ticks made once each, for minutes, while processes die and the database crashes; and what idle schedules cost.

    python -m bench.schedules [--minutes 10] [--processes 4] [--kill-every 5]

Schedules tick every second in several real workers. One of them is killed and started again every few seconds, and the
database crashes once, half-way, and is away for three seconds. In the end every second between the first tick and the last must have one tick and one
job. Then one worker holds a thousand schedules that do not tick, and its processor time is taken for a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from jobqueue import migrations
from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.leash import Leash, reachable_folder, unprivileged_user

RESULTS = Path(__file__).parent / "results" / "schedules.json"

_FAST = "".join(
    f'[schedules.fast-{n}]\nevery = "1s"\nkind = "heartbeat"\nmissed = "catch_up"\ncatch_up_max = 60\noverlap = "allow"\n'
    for n in range(3)
)
_IDLE = "".join(
    f'[schedules.idle-{n}]\ncron = "{n % 60} {{hour}} * * *"\ntimezone = "Europe/Bucharest"\nkind = "heartbeat"\n'
    for n in range(1000)
)


@dataclass(frozen=True)
class Ticks:
    """How the ticks went. Lateness is from the tick to its job, in milliseconds."""

    minutes: float
    processes: int
    kills: int
    ticks: int
    twice: int
    missing: int
    jobs_not_completed: int
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float


class Fleet:
    """Workers without media on one database, each of which can be killed."""

    def __init__(self, dsn: str, folder: Path, schedules: str) -> None:
        self._file = folder / "schedules.toml"
        self._file.write_text(schedules)
        self._log = folder / "workers.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "VIRTUAL_ENV")},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "DATABASE_URL": dsn,
            "PORT": "0",
            "LOG_LEVEL": "warning",
            "LEASE_SECONDS": "5",
            "SCHEDULES_FILE": str(self._file),
        }

    def start(self) -> Leash:
        command = [sys.executable, "-m", "jobqueue", "worker"]
        return Leash(command, log=self._log, env=self._environment)


def measure_ticks(postgres: Postgres, folder: Path, minutes: float, processes: int, kill_every: float) -> Ticks:
    dsn = postgres.create_database("ticks")
    migrations.migrate(dsn)
    fleet = Fleet(dsn, folder, _FAST)
    workers = [fleet.start() for _ in range(processes)]
    began, kills, crashed = time.monotonic(), 0, False
    end = began + minutes * 60
    while time.monotonic() < end:
        time.sleep(min(kill_every, max(0.0, end - time.monotonic())))
        victim = kills % processes
        workers[victim].stop(signal.SIGKILL)
        workers[victim] = fleet.start()
        kills += 1
        if not crashed and time.monotonic() - began > minutes * 30:
            # Away for long enough that ticks fall due meanwhile.
            postgres.stop("immediate")
            time.sleep(3)
            postgres.start()
            crashed = True
        done = 1 - max(0.0, end - time.monotonic()) / (minutes * 60)
        print(f"\r{done:4.0%}  {kills} killed", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    time.sleep(6)
    for worker in workers:
        worker.stop()
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            """
            WITH t AS (SELECT schedule, tick, fired_at, state FROM jobqueue.schedule_ticks),
                 j AS (SELECT schedule, tick_at, count(*) AS n FROM jobs GROUP BY 1, 2),
                 span AS (SELECT schedule, extract(epoch FROM max(tick) - min(tick))::int + 1 AS wanted, count(*) AS found
                          FROM t GROUP BY 1)
            SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM j WHERE n > 1),
                   (SELECT sum(wanted - found) FROM span),
                   (SELECT count(*) FROM t WHERE state <> 'completed'),
                   percentile_cont(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY extract(epoch FROM fired_at - tick) * 1000)
            FROM t
            """
        ).fetchone()
    assert row is not None
    late = [round(float(value), 1) for value in row[4]]
    return Ticks(minutes, processes, kills, int(row[0]), int(row[1]), int(row[2]), int(row[3]), *late)


def measure_idle(postgres: Postgres, folder: Path, seconds: float) -> float:
    """The share of a core that a worker with a thousand schedules uses, in per cent."""
    dsn = postgres.create_database("idle")
    migrations.migrate(dsn)
    hour = (time.gmtime().tm_hour + 12) % 24
    worker = Fleet(dsn, folder, _IDLE.replace("{hour}", str(hour))).start()
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "SELECT count(*), (SELECT name FROM jobqueue.workers) FROM schedules WHERE next_tick_at IS NOT NULL"
            ).fetchone()
            if row is not None and row[0] == 1000 and row[1]:
                break
            time.sleep(0.1)
    time.sleep(2)
    pid = int(row[1].rpartition(":")[2].partition("-")[0])
    before = _busy(pid)
    time.sleep(seconds)
    share = (_busy(pid) - before) / seconds * 100
    worker.stop()
    return round(share, 3)


def _busy(pid: int) -> float:
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=5.0)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    servers = reachable_folder("jobqueue-bench-", unprivileged_user())
    try:
        with tempfile.TemporaryDirectory() as name, Postgres(servers / "postgres") as postgres:
            idle = measure_idle(postgres, Path(name), arguments.idle_seconds)
            print(f"1,000 schedules, idle: {idle} % of a core")
            ticks = measure_ticks(postgres, Path(name), arguments.minutes, arguments.processes, arguments.kill_every)
    finally:
        shutil.rmtree(servers, ignore_errors=True)
    result: dict[str, Any] = {
        "idle_percent_of_a_core": idle,
        "ticks": asdict(ticks),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    if ticks.twice or ticks.missing or idle >= 1.0:
        sys.exit("a tick was lost or doubled, or idling costs too much")


if __name__ == "__main__":
    main()
