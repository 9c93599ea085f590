"""Expiry and archival of large tables, and what an insert beside them waits.

    python -m bench.archival [--notifications 1000000] [--due 300000] [--events 2000000] [--retention-days 90]

A database of its own is filled: notifications, `due` of them past their time, each with a state; events, half of them older than
the retention. Then the expiry runs to its end and the archival runs as an external cron would ask for it, again and again for 18 s, until
nothing is left. Beside each a host inserts an event, and a notification with its state, 50 times a second; each insert is timed from BEGIN
to the answer to COMMIT. The same is timed beside nothing at all, for comparison. Memory is the peak of this process, which does the work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from jobqueue import migrations
from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.leash import reachable_folder, unprivileged_user
from jobqueue.demo.object_store import ObjectStore
from jobqueue.observe.metrics import Metrics
from jobqueue.retention.archival import Archival
from jobqueue.retention.archive_store import ArchiveStore
from jobqueue.retention.notification_expiry import NotificationExpiry
from jobqueue.storage.objects import Objects
from jobqueue.web.maintenance_runs import RUN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres as Server

RESULTS = Path(__file__).parent / "results" / "archival.json"

# Between two inserts of the host beside a run, in seconds.
_EVERY = 0.02
_QUIET_SECONDS = 10.0

_FILL_NOTIFICATIONS = """
WITH made AS (
    INSERT INTO platform_notifications (app_id, external_id, user_id, title, body, expires_at, created_at)
    SELECT 'app', 'x' || n, 'user' || n %% 50000, 'Somebody bid on your item', repeat('A sentence of the body. ', 4),
           now() + make_interval(secs => CASE WHEN n %% %(every)s < %(share)s THEN -n %% 86400 ELSE 86400 + n END),
           now() - make_interval(secs => n)
    FROM generate_series(%(first)s::int, %(last)s::int) AS n RETURNING id, user_id)
INSERT INTO notification_state (notification_id, user_id) SELECT id, user_id FROM made"""

_FILL_EVENTS = """
INSERT INTO platform_events (app_id, user_id, event_category, event_type, entity_type, entity_id, event_data, created_at)
SELECT 'app', 'user' || n %% 50000, 'auction', 'bid.placed', 'item', 'item' || n,
       jsonb_build_object('amount', n %% 10000, 'currency', 'EUR', 'note', md5(n::text), 'source', 'web'),
       now() - make_interval(secs => CASE WHEN n %% 2 = 0 THEN %(days)s * 86400 + n ELSE n %% 86400 END)
FROM generate_series(%(first)s::int, %(last)s::int) AS n"""

_STEP = 100_000


class Host:
    """Inserts beside a run from another process, and says how long each took."""

    program = """
import sys, time, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    print('ready', flush=True)
    while True:
        began = time.perf_counter()
        with connection.transaction():
            connection.execute("INSERT INTO platform_events (app_id, event_type) VALUES ('app', 'bid.placed')")
            connection.execute(
                "WITH made AS (INSERT INTO platform_notifications (user_id, expires_at) VALUES ('u', now() + interval '1 day') RETURNING id)"
                " INSERT INTO notification_state (notification_id, user_id) SELECT id, 'u' FROM made")
        took = time.perf_counter() - began
        print(took * 1000, flush=True)
        time.sleep(max(0.0, float(sys.argv[2]) - took))
"""

    def __init__(self, dsn: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.program, dsn, str(_EVERY)], stdout=subprocess.PIPE, text=True
        )
        self.milliseconds: list[float] = []
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.milliseconds.extend(float(line) for line in self._process.stdout)

    def stop(self) -> dict[str, float]:
        self._process.kill()
        self._reader.join()
        self._process.wait()
        times = sorted(self.milliseconds)
        return {
            "inserts": len(times),
            "p50_ms": round(times[len(times) // 2], 2),
            "p99_ms": round(times[int(len(times) * 0.99)], 2),
            "max_ms": round(times[-1], 2),
        }


@contextmanager
def beside(dsn: str, figures: dict[str, Any]) -> Iterator[None]:
    """Have a host insert meanwhile; `figures` gets how long that took, and how long this did."""
    host = Host(dsn)
    began = time.monotonic()
    try:
        yield
    finally:
        figures["seconds"] = round(time.monotonic() - began, 1)
        figures["insert_beside"] = host.stop()


def fill(dsn: str, arguments: argparse.Namespace) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        every, share = 1000, round(arguments.due / arguments.notifications * 1000)
        for query, count, more in (
            (_FILL_NOTIFICATIONS, arguments.notifications, {"every": every, "share": share}),
            (_FILL_EVENTS, arguments.events, {"days": arguments.retention_days}),
        ):
            for first in range(0, count, _STEP):
                last = min(first + _STEP, count) - 1
                connection.execute(query.encode(), {"first": first, "last": last, **more})
            print(f"{count} rows filled in", flush=True)
        connection.execute("VACUUM ANALYZE")


def measure(server: Server, store: ObjectStore, arguments: argparse.Namespace) -> dict[str, Any]:
    dsn = server.create_database("archival")
    migrations.migrate(dsn)
    fill(dsn, arguments)
    objects = Objects(store.endpoint, store.key_id, store.app_key, "archives", store.region)
    objects.client.create_bucket(Bucket="archives")
    baseline_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    quiet: dict[str, Any] = {}
    with beside(dsn, quiet):
        time.sleep(_QUIET_SECONDS)

    expiry: dict[str, Any] = {"batch": arguments.expiry_batch}
    with beside(dsn, expiry):
        expiry["expired"] = NotificationExpiry(dsn, arguments.expiry_batch).run(lambda: True).number

    archival: dict[str, Any] = {"batch": arguments.archival_batch, "events": 0, "notifications": 0, "run_seconds": []}
    runs = Archival(
        dsn, ArchiveStore(objects), Metrics(), days=arguments.retention_days, batch_size=arguments.archival_batch
    )
    with beside(dsn, archival):
        while True:
            began = time.monotonic()
            done = runs.run(lambda until=began + RUN_SECONDS: time.monotonic() < until)  # type: ignore[misc]
            archival["run_seconds"].append(round(time.monotonic() - began, 1))
            archival["events"] += done.rows["platform_events"]
            archival["notifications"] += done.rows["platform_notifications"]
            if not done.more:
                break
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*), sum(size_bytes) FROM jobqueue.archives").fetchone()
        assert row is not None
        archival["archives"], archival["bytes_before_compression"] = row[0], int(row[1])
        left = connection.execute("SELECT count(*) FROM platform_events").fetchone()
        assert left is not None
        archival["events_left"] = left[0]
    archival["bytes_stored"] = sum(head.size_bytes for key in objects.keys() if (head := objects.head(key)))  # noqa: SIM118
    objects.close()
    return {
        "quiet": quiet,
        "expiry": expiry,
        "archival": archival,
        "memory_before_mib": round(baseline_kib / 1024, 1),
        "memory_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> None:
    """Measure, print and write the figures down."""
    parser = argparse.ArgumentParser(description="Expiry and archival of large tables")
    parser.add_argument("--notifications", type=int, default=1_000_000)
    parser.add_argument("--due", type=int, default=300_000)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--retention-days", type=int, default=90)
    parser.add_argument("--expiry-batch", type=int, default=1000)
    parser.add_argument("--archival-batch", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    folder = reachable_folder("jobqueue-bench-", unprivileged_user())
    try:
        with Postgres(folder / "postgres") as server, ObjectStore(folder / "store") as store:
            figures = measure(server, store, arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    text = json.dumps({"machine": machine, **figures}, indent=2)
    print(text)
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
