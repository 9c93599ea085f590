"""Many events to twenty webhooks, most of which misbehave: five dead, five slow, two gone, eight live.

    python -m bench.webhooks [--events 10000] [--rate 15] [--concurrency 60] [--workers 2]

Two daemons deliver; in the middle one is killed outright and started again. The dead are two ports where nobody listens, two
that answer 500, and one that never answers. Reported are, for the live ones, the time from the event's commit to its arrival,
what arrived more than once, and what became of the others.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from bench.receivers import SECRET
from jobqueue import migrations
from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.leash import Leash, reachable_folder, unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parent / "results" / "webhooks.json"

CHARACTERS = ("live", "slow", "gone", "broken", "silent", "refusing")
_COUNTS = {"live": 8, "slow": 5, "gone": 2, "broken": 2, "silent": 1, "refusing": 2}

P99_GOAL_SECONDS = 2.0


@dataclass(frozen=True)
class Options:
    """What is run: events a second, jobs in flight in each of so many daemons, and the seconds that may pass after the last event."""

    events: int = 10_000
    rate: float = 15.0
    concurrency: int = 60
    workers: int = 2
    patience: float = 1800.0
    wait_for_slow: bool = True
    wait_for_dead: bool = True


@dataclass
class Report:
    """What came of it.

    Times in seconds. `missing` are live deliveries that never arrived, `duplicates` arrivals of what had arrived before,
    `strangers` requests with a bad signature, `ids_of_duplicates_differ` deliveries that repeat one under another id.
    """

    events: int
    rate: float
    seconds_inserting: float
    seconds_until_settled: float
    live_p50: float
    live_p95: float
    live_p99: float
    live_longest: float
    missing: int
    duplicates: int
    strangers: int
    ids_of_duplicates_differ: int
    states: dict[str, dict[str, int]]
    webhooks: list[dict[str, Any]]


def run(options: Options, database: str, folder: Path) -> Report:
    """Run the whole scenario against a migrated, empty database."""
    log = folder / "receivers.log"
    with ExitStack() as stack:
        receivers = subprocess.Popen(
            [sys.executable, "-m", "bench.receivers", str(log)], stdout=subprocess.PIPE, text=True
        )
        stack.callback(receivers.wait)
        stack.callback(receivers.kill)
        assert receivers.stdout is not None
        stack.enter_context(receivers.stdout)
        port = int(receivers.stdout.readline())
        connection = stack.enter_context(psycopg.connect(database, autocommit=True))
        _subscribe(connection, port)
        workers = [_start(database, folder, options, n) for n in range(options.workers)]
        stack.callback(lambda: [worker.stop(timeout=20.0) for worker in workers])
        _wait_for(connection, options.workers)
        began = time.monotonic()
        for number in _paced(options):
            connection.execute(
                b"INSERT INTO platform_events (event_category, event_type, event_data) VALUES ('load', 'load.made', %s)",
                [json.dumps({"number": number})],
            )
            if number == options.events // 2:
                workers[0].send(signal.SIGKILL)
                workers[0].wait(10.0)
                workers[0] = _start(database, folder, options, options.workers)
        inserted = time.monotonic()
        _settle(connection, options)
        settled = time.monotonic()
        for worker in workers:
            worker.send(signal.SIGTERM)
        for worker in workers:
            worker.wait(60.0)
        return _report(connection, log, options, inserted - began, settled - inserted)


def _subscribe(connection: psycopg.Connection[Any], port: int) -> None:
    for character in CHARACTERS:
        for number in range(_COUNTS[character]):
            # Ports below 1024 that no service uses: nothing listens, and nothing is ever given them at random.
            base = f"http://127.0.0.1:{3 + number}" if character == "refusing" else f"http://127.0.0.1:{port}"
            connection.execute(
                b"INSERT INTO app_webhooks (webhook_url, webhook_secret, subscribed_events) VALUES (%s, %s, '{load.*}')",
                [f"{base}/{character}/{number}", SECRET],
            )


def _start(database: str, folder: Path, options: Options, number: int) -> Leash:
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    environment |= {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "DATABASE_URL": database,
        "CONCURRENCY": str(options.concurrency),
        "LEASE_SECONDS": "15",
        "DRAIN_TIMEOUT": "1",
        "PORT": "0",
        "LOG_LEVEL": "warning",
        "SCHEDULER_IS_PRIMARY": "false",
        "WEBHOOK_ALLOW_HTTP": "true",
        "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
    }
    command = [sys.executable, "-m", "jobqueue", "worker", "--queue", "webhook_deliveries"]
    return Leash(command, log=folder / f"worker-{number}.log", env=environment)


def _wait_for(connection: psycopg.Connection[Any], workers: int) -> None:
    """Wait until so many daemons are at work."""
    deadline = time.monotonic() + 30.0
    while connection.execute(b"SELECT count(*) >= %s FROM jobqueue.workers", [workers]).fetchone() != (True,):
        assert time.monotonic() < deadline, "the daemons did not start"
        time.sleep(0.05)


def _paced(options: Options) -> Iterator[int]:
    began = time.monotonic()
    for number in range(options.events):
        time.sleep(max(0.0, began + number / options.rate - time.monotonic()))
        yield number


def _settle(connection: psycopg.Connection[Any], options: Options) -> None:
    """Wait until nothing is left to deliver and, if asked, the slow have theirs and every dead webhook is disabled."""
    ignored = _DEAD if options.wait_for_slow else f"{_DEAD}|/slow/"
    deadline = time.monotonic() + options.patience
    while time.monotonic() < deadline:
        [(left, alive)] = connection.execute(
            b"""
            SELECT count(*) FILTER (WHERE d.status IN ('pending', 'processing') AND NOT (w.webhook_url ~ %s)),
                   (SELECT count(*) FROM app_webhooks WHERE is_active AND webhook_url ~ %s)
            FROM webhook_deliveries d JOIN app_webhooks w ON w.id = d.webhook_id""",
            [ignored, _DEAD],
        ).fetchall()
        if not left and not (alive and options.wait_for_dead):
            return
        time.sleep(0.5)


_DEAD = "/(broken|silent|refusing)/"


def _report(
    connection: psycopg.Connection[Any], log: Path, options: Options, inserting: float, settling: float
) -> Report:
    arrivals: dict[str, list[float]] = {}
    strangers = 0
    for line in log.read_text().splitlines():
        moment, _, delivery, genuine = line.split(" ")
        arrivals.setdefault(delivery, []).append(float(moment))
        strangers += genuine != "True"
    live = connection.execute(b"""
        SELECT d.id::text, extract(epoch FROM d.created_at)::float8, w.webhook_url, d.event_id
        FROM webhook_deliveries d JOIN app_webhooks w ON w.id = d.webhook_id WHERE w.webhook_url ~ '/live/'""").fetchall()
    taken = connection.execute(b"SELECT id::text FROM webhook_deliveries WHERE status = 'completed'").fetchall()
    waits = sorted(arrivals[id_][0] - made for id_, made, _, _ in live if id_ in arrivals)
    states: dict[str, dict[str, int]] = {}
    for character, status, count in connection.execute(b"""
            SELECT split_part(w.webhook_url, '/', 4), d.status, count(*)
            FROM webhook_deliveries d JOIN app_webhooks w ON w.id = d.webhook_id GROUP BY 1, 2 ORDER BY 1, 2"""):
        states.setdefault(character, {})[status] = count
    webhooks = connection.execute(b"""
        SELECT split_part(webhook_url, '/', 4) || '/' || split_part(webhook_url, '/', 5), is_active, total_deliveries,
               total_failures, disabled_reason FROM app_webhooks ORDER BY 1""").fetchall()
    events_per_hook = len({event for *_, event in live}) * _COUNTS["live"]
    return Report(
        events=options.events,
        rate=options.rate,
        seconds_inserting=round(inserting, 1),
        seconds_until_settled=round(settling, 1),
        live_p50=round(_percentile(waits, 50), 3),
        live_p95=round(_percentile(waits, 95), 3),
        live_p99=round(_percentile(waits, 99), 3),
        live_longest=round(waits[-1], 3),
        missing=options.events * _COUNTS["live"] - len(waits) + (options.events * _COUNTS["live"] - events_per_hook),
        duplicates=sum(len(arrivals.get(id_, "-")) - 1 for (id_,) in taken),
        strangers=strangers,
        ids_of_duplicates_differ=len(live) - len({(url, event) for _, _, url, event in live}),
        states=states,
        webhooks=[
            dict(zip(("webhook", "active", "attempts", "failures", "disabled_reason"), row, strict=True))
            for row in webhooks
        ],
    )


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[math.ceil(len(ordered) * share / 100) - 1]


def main() -> int:
    """Run, print and keep the report; 1 when a live delivery is missing or late."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=Options.events)
    parser.add_argument("--rate", type=float, default=Options.rate)
    parser.add_argument("--concurrency", type=int, default=Options.concurrency)
    parser.add_argument("--workers", type=int, default=Options.workers)
    parser.add_argument("--patience", type=float, default=Options.patience)
    given = parser.parse_args()
    options = Options(given.events, given.rate, given.concurrency, given.workers, given.patience)
    folder = reachable_folder("jobqueue-bench-", unprivileged_user())
    try:
        with Postgres(folder / "postgres") as server, tempfile.TemporaryDirectory() as logs:
            database = server.create_database("webhooks")
            migrations.migrate(database)
            report = run(options, database, Path(logs))
    finally:
        shutil.rmtree(folder)
    document = {"machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"}
    print(json.dumps({**document, **asdict(report)}, indent=2))
    if options.events >= Options.events:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({**document, **asdict(report)}, indent=2) + "\n")
    return 0 if report.missing == 0 and report.live_p99 < P99_GOAL_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
