"""A day of the product: everything that it does once, in one database, by a worker, a host and people."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from tests.support.daemon import worker_environment
from tests.support.http_server import FaultyServer, reply
from tests.support.jpeg import picture
from tests.support.origin import SteadyOrigin
from tests.support.waiting import eventually
from typer.testing import CliRunner

from jobqueue.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.daemon import Launch
    from tests.support.s3 import Bucket

# What the packaged schedules enqueue.
KINDS = ("heartbeat", "webhook-retry", "notification-expiry", "data-archival", "media-purge", "job-retention")

_SCHEDULES = """
[schedules.often]
every = "1s"
kind = "heartbeat"
"""

_FILES = {"lots/1.jpg": picture(1), "lots/2.jpg": picture(2)}

# What is there already, as its owner wrote it: no statement says how values are to be written.
_THERE = """
INSERT INTO public.app_webhooks (webhook_url, subscribed_events) VALUES (%(url)s, '{order.*}');
INSERT INTO public.auction_files (source_key, publish_status, cdn_key_prefix, deleted_at)
SELECT 'gone.jpg', 'deleted', 'gone/1', now() - interval '99 days';
INSERT INTO public.publish_jobs (file_id, status, completed_at, created_at)
SELECT id, 'completed', now() - interval '400 days', now() - interval '400 days' FROM public.auction_files WHERE source_key = 'gone.jpg'"""

# As a host enqueues.
_HOST = """
INSERT INTO public.platform_events (event_category, event_type, event_data)
VALUES ('order', 'order.placed', '{"price": 19.99}');
INSERT INTO public.platform_events (event_type, created_at) SELECT 'old', now() - interval '400 days';
INSERT INTO public.platform_notifications (user_id, expires_at) SELECT 'u', now() - interval '1 minute';
INSERT INTO public.jobs (kind, run_after) SELECT kind, now() + interval '1 second' FROM unnest(%(kinds)s::text[]) AS kind;
INSERT INTO public.jobs (kind, unique_key, run_after) SELECT 'heartbeat', 'one', now() + interval '2 hours' FROM generate_series(1, 2)"""


@dataclass
class Day:
    """One database under whatever settings it has. `address` is where the product finds it; `dsn` leads there directly.

    Who does not come as its owner does so by another address: `roles` may have one for `migrate`, `worker`, `host` and `reader`.
    """

    dsn: str
    address: str
    bucket: Bucket
    launch: Launch
    folder: Path
    roles: Mapping[str, str] = field(default_factory=dict)

    def pass_(self) -> None:
        """Raises AssertionError at whatever does not go as on any other day."""
        self.command("migrate", role="migrate")
        self.command("migrate", role="migrate")
        with FaultyServer(reply(200)) as receiver, SteadyOrigin(dict(_FILES)) as origin:
            (self.folder / "schedules.toml").write_text(_SCHEDULES)
            environment = worker_environment(
                self.dsn, origin, self.bucket, DATABASE_URL=self._address("worker"),
                SCHEDULES_FILE=self.folder / "schedules.toml", WORKER_POLL_INTERVAL=300, CONCURRENCY=4,
                WEBHOOK_ALLOW_HTTP="true", WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8",
            )  # fmt: skip
            self.bucket.objects.put("gone/1/thumb.webp", b"picture", content_type="image/webp")
            self._work(environment, receiver.url)
            self._look()

    def command(self, *arguments: str, role: str = "reader") -> str:
        """Run a command to its end, by default one that only looks; returns its standard output."""
        ran = CliRunner().invoke(app, [*arguments], env={"DATABASE_URL": self._address(role)}, prog_name="jobqueue")
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        assert ran.exit_code == 0, f"{arguments}: {ran.output}"
        return ran.stdout

    def _address(self, role: str) -> str:
        return self.roles.get(role, self.address)

    def _work(self, environment: Mapping[str, str], receiver: str) -> None:
        # Whether the host's own statements are compiled is the host's to say, and not what is looked at here.
        for dsn, statements in ((self.dsn, _THERE), (self.roles.get("host", self.dsn), _HOST)):
            with psycopg.connect(dsn, autocommit=True, options="-c jit=off") as host:
                for statement in statements.split(";\n"):
                    host.execute(statement.encode(), {"url": receiver, "kinds": list(KINDS)})
                if statements is _HOST:
                    project = self._project(host)
        self.command("publish", *_FILES, role="worker")
        self.command("artifact", project, role="worker")
        worker = self.launch(environment)
        with self._looking() as looking:
            eventually(lambda: self._done(looking), 60, interval=0.1)
            assert self._states(looking, "jobs") >= {("completed", len(KINDS)), ("pending", 1)}
            assert looking.execute(b"SELECT count(*) AS n FROM public.platform_events").fetchall() == [{"n": 1}]
            assert {row["status"] for row in looking.execute(b"SELECT status FROM public.notification_state")} <= {
                "expired"
            }
            assert looking.execute(b"SELECT FROM public.auction_files WHERE source_key = 'gone.jpg'").fetchall() == []
            charged = b"SELECT status, error_message FROM public.%s WHERE retry_count > 0"
            for table in (b"publish_jobs", b"download_artifacts", b"webhook_deliveries", b"jobs"):
                assert looking.execute(charged.replace(b"%s", table)).fetchall() == []
        assert worker.log(level="error") == []
        assert [entry for entry in worker.log() if "traceback" in json.dumps(entry).lower()] == []

    def _project(self, host: psycopg.Connection[Any]) -> str:
        [(project,)] = host.execute(
            b"INSERT INTO public.projects (name) VALUES ('Sommer\\fest') RETURNING id::text"
        ).fetchall()
        host.execute(
            b"""INSERT INTO public.project_media (project_id, kind, source_key, filename)
                SELECT %(project)s::uuid, 'PHOTO', key, key FROM unnest(%(keys)s::text[]) AS key""",
            {"project": project, "keys": list(_FILES)},
        )
        return str(project)

    def _done(self, looking: psycopg.Connection[Any]) -> bool:
        ticks = looking.execute(b"SELECT FROM jobqueue.schedule_ticks WHERE schedule = 'often' AND state = 'completed'")
        return (
            ticks.rowcount >= 1
            and self._states(looking, "publish_jobs") == {("completed", len(_FILES))}
            and self._states(looking, "download_artifacts") == {("READY", 1)}
            and self._states(looking, "webhook_deliveries") == {("completed", 1)}
            and looking.execute(
                b"SELECT FROM public.jobs WHERE status = 'completed' AND schedule IS NULL"
            ).rowcount == len(KINDS)
        )  # fmt: skip

    def _states(self, looking: psycopg.Connection[Any], table: str) -> set[tuple[str, int]]:
        only = "WHERE schedule IS NULL" if table == "jobs" else ""
        rows = looking.execute(f"SELECT status, count(*) AS n FROM public.{table} {only} GROUP BY 1".encode())
        return {(row["status"], row["n"]) for row in rows}

    def _look(self) -> None:
        """What people read: every command that shows something, for people and for programs."""
        queues = json.loads(self.command("stats", "--json"))["queues"]
        assert {queue["queue"] for queue in queues} >= {
            "publish_jobs",
            "download_artifacts",
            "webhook_deliveries",
            "jobs",
        }
        self.command("stats")
        for queue in (queue["queue"] for queue in queues):
            jobs = json.loads(self.command("jobs", "list", queue, "--json"))["jobs"]
            self.command("jobs", "list", queue)
            for job in jobs[:1]:
                self.command("jobs", "show", queue, str(job["id"]))
                self.command("jobs", "show", queue, str(job["id"]), "--json")
            self.command("jobs", "requeue", queue, "--dry-run", "--all")
            self.command("jobs", "purge", queue, "--older", "1d", "--dry-run")
        for reading in (("schedules", "list"), ("webhooks", "list")):
            self.command(*reading)
            json.loads(self.command(*reading, "--json"))
        self.command("schedules", "pause", "often", role="worker")
        self.command("schedules", "resume", "often", role="worker")

    @contextmanager
    def _looking(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        """A connection of the test's own, which the database's settings do not reach."""
        sane = "-c datestyle=ISO -c client_encoding=UTF8 -c jit=off -c timezone=UTC -c default_transaction_isolation=read\\ committed"
        sane += (
            " -c statement_timeout=0 -c lock_timeout=0 -c extra_float_digits=1 -c search_path=public -c row_security=on"
        )
        with psycopg.connect(self.dsn, autocommit=True, options=sane, row_factory=dict_row) as connection:
            yield connection
