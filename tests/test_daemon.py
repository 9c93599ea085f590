"""The daemon as its surroundings see it: HTTP, log, exit codes, the service manager, and no secret anywhere."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import make_conninfo
from tests.support.daemon import DaemonProcess, Launch, clean_environment, launching, worker_environment
from tests.support.host import Host, migrated, shared_database
from tests.support.jpeg import picture
from tests.support.origin import SteadyOrigin
from tests.support.read_only import read_only
from tests.support.waiting import eventually

from jobqueue.demo.launch import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.s3 import Bucket

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.faults]

ORIGIN_SECRET = "canary-origin-secret"


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    return migrated(postgres)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    with launching(tmp_path) as launch:
        yield launch


class Manager:
    """systemd's end of the notification socket."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self._heard: list[str] = []

    def heard(self) -> list[str]:
        """Every line of every message so far."""
        while True:
            try:
                self._heard += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self._heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


@dataclass
class Answer:
    status: int
    text: str

    @property
    def checks(self) -> dict[str, str]:
        return dict(json.loads(self.text)["checks"])


def get(port: int, path: str) -> Answer:
    """Ask the daemon; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=10) as response:
            return Answer(response.status, response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())
    except OSError as error:
        return Answer(0, str(error))


@contextmanager
def database_away(postgres: Postgres, host: Host) -> Iterator[None]:
    """Within, the host's database refuses and cuts every connection, and the server's other databases do not."""
    name = urlsplit(host.dsn).path[1:]
    with psycopg.connect(postgres.dsn, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


# One daemon that has seen a success, faults and its database going away


@dataclass
class Service:
    worker: DaemonProcess
    port: int
    host: Host
    environment: dict[str, str]
    published: str
    failed: dict[str, str]
    answers_while_away: dict[str, Answer]
    metrics: str
    errors: list[str]

    def everything_said(self) -> str:
        return "\n".join(
            [
                self.worker.output.read_text(),
                self.metrics,
                *self.errors,
                *(answer.text for answer in self.answers_while_away.values()),
            ]
        )


@pytest.fixture(scope="module")
def service(
    postgres: Postgres, template: str, shared_bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    files = {"fine": picture(80), "no-picture": b"this is no picture"}
    with (
        shared_database(postgres, template, "daemon") as first_host,
        SteadyOrigin(files, secret=ORIGIN_SECRET) as origin,
        launching(tmp_path_factory.mktemp("daemon")) as launch,
    ):
        port = free_port()
        environment = worker_environment(
            first_host.dsn,
            origin,
            shared_bucket,
            PORT=port,
            HTTP_HOST=HOST,
            WORKER_POLL_INTERVAL=500,
            LOG_LEVEL="debug",
        )
        worker = launch(environment)
        jobs = {key: str(first_host.enqueue(key)) for key in ("fine", "no-picture", "missing", "../up")}
        for job in jobs.values():
            worker.wait_for("job_finished", job_id=job)
        with database_away(postgres, first_host):
            eventually(lambda: get(port, "/readyz").status == 503)
            away = {path: get(port, path) for path in ("/readyz", "/healthz", "/metrics")}
        eventually(lambda: get(port, "/readyz").status == 200, 20)
        with Host(first_host.dsn) as host:
            metrics = eventually(lambda: _with_depth(get(port, "/metrics").text))
            yield Service(
                worker,
                port,
                host,
                environment,
                jobs.pop("fine"),
                jobs,
                away,
                metrics,
                [str(row["error_message"]) for row in host.rows("SELECT error_message FROM publish_jobs")],
            )


def _with_depth(metrics: str) -> str:
    return metrics if "jobqueue_queue_depth{" in metrics else ""


def test_it_is_alive_and_ready(service: Service) -> None:
    alive, ready = get(service.port, "/healthz"), get(service.port, "/readyz")
    assert (alive.status, alive.checks["loops"]) == (200, "ok")
    assert (ready.status, ready.checks) == (200, {"draining": "ok", "database": "ok"})


def test_without_its_database_it_is_alive_and_not_ready(service: Service) -> None:
    assert service.answers_while_away["/healthz"].status == 200
    ready = service.answers_while_away["/readyz"]
    assert (ready.status, ready.checks["database"]) == (503, "the database does not answer")
    assert service.answers_while_away["/metrics"].status == 200


@pytest.mark.extended
def test_it_is_not_ready_while_the_database_is_read_only(service: Service) -> None:
    with read_only(service.host.dsn):
        eventually(lambda: get(service.port, "/readyz").status == 503)
        assert get(service.port, "/readyz").checks["database"] == (
            "the database is read-only (default_transaction_read_only is on)"
        )
        assert get(service.port, "/healthz").status == 200
    eventually(lambda: get(service.port, "/readyz").status == 200)


# A loop is said to fail after a minute. Here a second will do.
_IMPATIENT = ("-c", "from jobqueue.kernel import loop; loop._FAILING = 1.0; from jobqueue.cli.main import main; main()")


@pytest.mark.extended
def test_a_loop_that_fails_at_every_turn_is_not_well(host: Host, bucket: Bucket, launch: Launch) -> None:
    port = free_port()
    with SteadyOrigin() as origin:
        environment = worker_environment(host.dsn, origin, bucket, PORT=port, HTTP_HOST=HOST)
        worker = launch(environment, "worker", command=_IMPATIENT)
        worker.wait_for("schedules_loaded")
        assert get(port, "/healthz").status == 200
        host.execute("ALTER TABLE public.schedules RENAME TO elsewhere")
        eventually(lambda: get(port, "/healthz").status == 503, 20)
        told = get(port, "/healthz").checks
        assert told["loops"] == "ok"
        assert told["schedules"].startswith("the schedule loop has failed at every turn for ")
        assert "UndefinedTable (42P01)" in told["schedules"]
        host.execute("ALTER TABLE public.elsewhere RENAME TO schedules")
        eventually(lambda: get(port, "/healthz").status == 200, 20)
        assert worker.running


def test_it_is_not_ready_while_migrations_are_missing(service: Service) -> None:
    [removed] = service.host.rows(
        "DELETE FROM jobqueue.migrations WHERE version = (SELECT max(version) FROM jobqueue.migrations) RETURNING *"
    )
    try:
        eventually(lambda: get(service.port, "/readyz").status == 503)
        assert "jobqueue migrate" in get(service.port, "/readyz").checks["database"]
        assert get(service.port, "/healthz").status == 200
    finally:
        service.host.execute(
            "INSERT INTO jobqueue.migrations VALUES (%(version)s, %(name)s, %(checksum)s, %(applied_at)s)", **removed
        )
    eventually(lambda: get(service.port, "/readyz").status == 200)


def test_the_contract_s_metrics_are_there(service: Service) -> None:
    families = {family.name: family for family in text_string_to_metric_families(service.metrics)}
    expected = {
        "jobs_started": "counter",
        "jobs_finished": "counter",
        "job_duration_seconds": "histogram",
        "job_stage_duration_seconds": "histogram",
        "job_wait_seconds": "histogram",
        "queue_depth": "gauge",
        "queue_oldest_due_seconds": "gauge",
        "jobs_in_flight": "gauge",
        "worker_concurrency": "gauge",
        "leases_rescued": "counter",
        "bytes_downloaded": "counter",
        "bytes_uploaded": "counter",
        "database_errors": "counter",
    }
    assert {name: families[f"jobqueue_{name}"].type for name in expected} == expected
    assert "jobqueue_build_info" in service.metrics

    def value(name: str, **labels: str) -> float:
        samples = [s for family in families.values() for s in family.samples if s.name == f"jobqueue_{name}"]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    assert value("jobs_started_total", queue="publish_jobs") == 4
    assert value("jobs_finished_total", queue="publish_jobs", outcome="completed") == 1
    assert value("jobs_finished_total", queue="publish_jobs", outcome="failed") == 3
    outcomes = {s.labels["outcome"] for s in families["jobqueue_jobs_finished"].samples}
    assert outcomes == {"completed", "retried", "failed", "cancelled", "released", "lease_lost"}
    stages = {s.labels["stage"] for s in families["jobqueue_job_stage_duration_seconds"].samples}
    assert stages >= {"download", "decode", "encode", "upload", "commit"}
    assert value("bytes_uploaded_total") > 0
    assert value("worker_concurrency") == 3
    assert value("database_errors_total") > 0


def test_no_label_holds_an_id_or_a_key(service: Service) -> None:
    samples = [s for family in text_string_to_metric_families(service.metrics) for s in family.samples]
    words = {value for s in samples if s.name.startswith("jobqueue_job") for value in s.labels.values()}
    assert not words & {service.published, *service.failed.values(), *service.failed, "fine"}


def test_the_log_is_one_object_a_line_with_the_contract_s_fields(service: Service) -> None:
    entries = service.worker.log()
    for entry in entries:
        assert {"timestamp", "level", "event", "logger"} <= entry.keys()
        assert datetime.fromisoformat(entry["timestamp"]).tzinfo is not None
    for job, outcome in [(service.published, "completed"), *((job, "failed") for job in service.failed.values())]:
        [end] = service.worker.log("job_finished", job_id=job)
        assert (end["queue"], end["attempt"], end["outcome"]) == ("publish_jobs", 1, outcome)
        assert end["duration_ms"] >= 0
        assert ("error" in end) is (outcome == "failed")


def test_secrets_are_nowhere(service: Service) -> None:
    environment = service.environment
    password = urlsplit(environment["DATABASE_URL"]).password
    assert password is not None
    said = service.everything_said()
    assert len(said) > 5000
    for secret in (password, environment["RAID_PUBLISHER_SECRET"], environment["B2_APP_KEY"], environment["B2_KEY_ID"]):
        assert secret not in said
        assert quote(secret, safe="") not in said


def test_error_messages_say_what_was_wrong(service: Service) -> None:
    assert len([message for message in service.errors if message != "None"]) == 3
    for word in ("404", "source_key has '..' in its path"):
        assert any(word in message for message in service.errors)


# Starting and stopping


def test_draining_is_alive_and_not_ready(host: Host, bucket: Bucket, launch: Launch, manager: Manager) -> None:
    with SteadyOrigin({"photo": picture(81)}) as origin:
        origin.hold["photo"] = 1
        job = host.enqueue("photo")
        port = free_port()
        watched = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": 400_000}
        worker = launch(worker_environment(host.dsn, origin, bucket, PORT=port, HTTP_HOST=HOST, **watched))
        eventually(lambda: origin.holding == 1, 30)
        eventually(lambda: get(port, "/readyz").status == 200)
        # The manager is told of the start once, and of progress again and again.
        eventually(lambda: manager.heard().count("WATCHDOG=1") >= 3)
        assert manager.heard()[0] == "READY=1"
        assert manager.heard().count("READY=1") == 1
        assert "STOPPING=1" not in manager.heard()

        worker.send(signal.SIGTERM)
        eventually(lambda: get(port, "/readyz").status == 503)
        assert get(port, "/readyz").checks["draining"] == "the worker is draining"
        assert get(port, "/healthz").status == 200
        assert "jobqueue_worker_draining 1.0" in get(port, "/metrics").text
        eventually(lambda: "STOPPING=1" in manager.heard())
        assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in manager.heard())
        origin.release()
        assert worker.wait() == 0
        assert host.job(job)["status"] == "completed"


@pytest.mark.extended
def test_it_waits_for_a_database_that_is_away_at_the_start(
    postgres: Postgres, database: str, bucket: Bucket, launch: Launch, manager: Manager
) -> None:
    port = free_port()
    with SteadyOrigin({"photo": picture(82)}) as origin:
        with Host(database) as host, database_away(postgres, host):
            worker = launch(
                worker_environment(database, origin, bucket, PORT=port, HTTP_HOST=HOST, NOTIFY_SOCKET=manager.address)
            )
            worker.wait_for("database_away")
            eventually(lambda: get(port, "/healthz").status == 200)
            assert get(port, "/readyz").status == 503
            assert manager.heard() == []
        eventually(lambda: "READY=1" in manager.heard(), 20)
        with Host(database) as host:
            host.enqueue("photo")
            eventually(lambda: host.states() == {"completed": 1})


@pytest.mark.extended
def test_a_password_that_was_right_is_waited_for(host: Host, bucket: Bucket, launch: Launch) -> None:
    port = free_port()
    host.execute("CREATE ROLE turncoat SUPERUSER LOGIN PASSWORD 'canary-first'")
    try:
        dsn = make_conninfo(host.dsn, user="turncoat", password="canary-first")
        with SteadyOrigin({"photo": picture(84)}) as origin:
            worker = launch(worker_environment(host.dsn, origin, bucket, DATABASE_URL=dsn, PORT=port, HTTP_HOST=HOST))
            worker.wait_for("worker_started")
            host.execute("ALTER ROLE turncoat PASSWORD 'canary-second'")
            host.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'turncoat'")
            eventually(lambda: get(port, "/readyz").status == 503)
            told = get(port, "/readyz").checks["database"]
            assert told == "the database refuses the role or the password of DATABASE_URL: see the log"
            eventually(lambda: any("password authentication failed" in e["error"] for e in worker.log("database_away")))
            assert get(port, "/healthz").status == 200
            job = host.enqueue("photo")
            host.execute("ALTER ROLE turncoat PASSWORD 'canary-first'")
            eventually(lambda: host.job(job)["status"] == "completed", 20)
            eventually(lambda: get(port, "/readyz").status == 200)
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0
    finally:
        host.execute("DROP ROLE turncoat")


@pytest.mark.extended
@pytest.mark.parametrize("arguments", [(), ("--once",)])
def test_a_password_that_was_never_right_is_wrong_configuration(database: str, arguments: tuple[str, ...]) -> None:
    wrong = make_conninfo(database, password="canary-password")
    done = run_worker({**COMPLETE, "DATABASE_URL": wrong, "PORT": str(free_port()), "HTTP_HOST": HOST}, *arguments)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("DATABASE_URL is refused by its server: password authentication failed for user")
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.extended
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_while_it_waits_for_a_database(bucket: Bucket, launch: Launch, number: signal.Signals) -> None:
    with SteadyOrigin() as origin:
        worker = launch(worker_environment(f"postgresql://nobody@{HOST}:{free_port()}/none", origin, bucket))
        worker.wait_for("database_away")
        worker.forward(number)
        assert worker.wait(10) == 0


def test_once_works_on_what_is_due_and_exits(host: Host, bucket: Bucket, launch: Launch) -> None:
    with SteadyOrigin({"photo": picture(83)}) as origin:
        due = [host.enqueue("photo"), host.enqueue("missing")]
        later = host.enqueue("photo", run_after="2999-01-01")
        worker = launch(worker_environment(host.dsn, origin, bucket), "--once")
        assert worker.wait() == 0
    assert [host.job(job)["status"] for job in (*due, later)] == ["completed", "failed", "pending"]


@pytest.fixture
def host(database: str) -> Iterator[Host]:
    with Host(database) as host:
        yield host


# Configuration


def run_worker(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a worker that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "jobqueue", "worker", *arguments],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


COMPLETE = {
    "DATABASE_URL": "postgresql://worker:canary-password@127.0.0.1:1/none",
    "RAID_PUB_ENDPOINT": "http://127.0.0.1:1/files",
    "RAID_PUBLISHER_SECRET": ORIGIN_SECRET,
    "B2_ENDPOINT": "http://127.0.0.1:1",
    "B2_KEY_ID": "canary-key-id",
    "B2_APP_KEY": "canary-app-key",
    "B2_BUCKET": "bucket",
    "B2_REGION": "region",
    "CDN_BASE_URL": "https://cdn.example.test",
}
MEDIA = COMPLETE.keys() - {"DATABASE_URL"}


@pytest.mark.extended
@pytest.mark.parametrize(
    ("changes", "variables"),
    [
        (dict.fromkeys(COMPLETE, ""), ["DATABASE_URL"]),
        ({"CONCURRENCY": "many", "LEASE_SECONDS": "0", "DATABASE_URL": "canary-nonsense://"}, None),
        ({"RAID_PUBLISHER_SECRET": "", "B2_BUCKET": ""}, None),
    ],
    ids=["empty", "malformed", "incomplete"],
)
def test_a_configuration_that_will_not_do_is_told_line_by_line(
    changes: dict[str, str], variables: list[str] | None
) -> None:
    done = run_worker({**COMPLETE, **changes})
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert sorted(line.split()[0] for line in lines) == (variables or sorted(changes))
    assert all("; for example " in line for line in lines)
    assert "canary" not in done.stdout + done.stderr


def test_publishing_needs_its_variables() -> None:
    done = run_worker({"DATABASE_URL": COMPLETE["DATABASE_URL"], "PORT": "0"}, "--queue", "publish_jobs")
    assert done.returncode == 2
    assert {line.split()[0] for line in done.stderr.splitlines()} == MEDIA


def test_without_the_variables_of_publishing_the_other_queues_are_served_when_named(
    database: str, launch: Launch
) -> None:
    worker = launch({"DATABASE_URL": database, "PORT": "0"}, "--queue", "jobs", "--queue", "webhook_deliveries")
    assert worker.wait_for("worker_started")["queues"] == ["webhook_deliveries", "jobs"]
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_worker_of_all_queues_needs_the_variables_of_publishing() -> None:
    """One that left publishing out without a word would be found out by the customers."""
    done = run_worker({"DATABASE_URL": COMPLETE["DATABASE_URL"]})
    assert done.returncode == 2
    named = [line.split(" ")[0] for line in done.stderr.splitlines()]
    assert named == [
        *("RAID_PUB_ENDPOINT", "RAID_PUBLISHER_SECRET", "B2_KEY_ID", "B2_APP_KEY", "B2_BUCKET", "B2_REGION"),
        *("B2_ENDPOINT", "CDN_BASE_URL"),
    ]


def test_a_port_that_is_taken_is_a_configuration_error() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        done = run_worker({**COMPLETE, "PORT": str(port), "HTTP_HOST": HOST})
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"PORT cannot be listened on at {HOST}:{port}")
    assert "canary" not in done.stdout + done.stderr


def test_a_queue_that_nobody_serves_is_wrong_usage() -> None:
    done = run_worker(COMPLETE, "--queue", "publish_job")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "publish_job" in line
    assert "publish_jobs" in line


def test_a_table_of_a_hosts_own_is_told_how_it_gets_a_handler() -> None:
    """The variables of publishing have nothing to do with it."""
    done = run_worker({"DATABASE_URL": COMPLETE["DATABASE_URL"]}, "--queue", "invoices", "--queue", "jobs")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("--queue invoices: this program has no handler for it; ")
    assert "@app.queue('invoices')" in line
    assert "--app MODULE:APP" in line
    assert "docs/how-to/adopt-a-table.md" in line


def test_a_column_that_a_queues_table_lacks_is_told_in_a_line(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(b"ALTER TABLE jobs DROP COLUMN tick_slot CASCADE")
    for arguments in ((), ("--once",)):
        done = run_worker({"DATABASE_URL": database, "PORT": "0"}, "--queue", "jobs", *arguments)
        assert (done.returncode, done.stderr) == (
            2,
            "the table public.jobs of the queue jobs has no column 'tick_slot' (did you mean 'tick_at'?)\n",
        )


def test_a_database_without_our_tables_is_told_in_a_line(postgres: Postgres) -> None:
    dsn = postgres.create_database("without_our_tables")
    try:
        done = run_worker({**COMPLETE, "DATABASE_URL": dsn, "PORT": "0"})
    finally:
        postgres.drop_database("without_our_tables")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "jobqueue migrate" in line
    entries: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [entry for entry in entries if entry["level"] == "error"]
