"""Several real processes on one database: no tick twice, none missing, whatever dies; and changes that reach them all."""

from __future__ import annotations

import itertools
import json
import socket
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.schedule.helpers import Rig, every_second
from tests.support.http_server import FaultyServer, reply
from tests.support.servers import make_server
from tests.support.waiting import Stopwatch, eventually

from jobqueue import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import DaemonProcess

    from jobqueue.demo.embedded_postgres import Postgres

EVERY_SECOND = """
[schedules.strict]
every = "1s"
kind = "heartbeat"
missed = "catch_up"
catch_up_max = 60
overlap = "allow"

[schedules.plain]
cron = "* * * * * *"
timezone = "Europe/Bucharest"
kind = "heartbeat"
"""


@pytest.fixture
def own_postgres(server_folder: Path) -> Iterator[Postgres]:
    """A server that this test may stop."""
    with make_server(server_folder / "fleet", careless=False) as server:
        yield server


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.faults
def test_no_tick_twice_and_none_missing(own_postgres: Postgres, tmp_path: Path) -> None:
    """Four processes for ten seconds; one is killed and started again every two; the database crashes once,
    for long enough that ticks fall due meanwhile."""
    dsn = own_postgres.create_database("fleet")
    migrations.migrate(dsn)
    file = tmp_path / "schedules.toml"
    file.write_text(EVERY_SECOND)
    numbers = itertools.count()
    with Rig(dsn) as rig:

        def start() -> DaemonProcess:
            return rig.daemon(tmp_path, f"daemon{next(numbers)}", SCHEDULES_FILE=str(file), LEASE_SECONDS="3")

        fleet = [start() for _ in range(4)]
        for daemon in fleet:
            daemon.wait_for("schedules_loaded")
        eventually(lambda: rig.ticks("strict"))
        began = time.monotonic()
        for turn in range(4):
            eventually(lambda turn=turn: time.monotonic() - began > 2.0 * (turn + 1))  # type: ignore[misc]
            fleet[turn % 4].kill()
            fleet[turn % 4] = start()
            if turn == 1:
                own_postgres.stop("immediate")
                gone = time.monotonic()
                eventually(lambda gone=gone: time.monotonic() - gone > 1.5)  # type: ignore[misc]
                own_postgres.start()
        eventually(lambda: time.monotonic() - began > 10.0, 15)
        for daemon in fleet:
            daemon.wait_for("schedules_loaded")
        for daemon in fleet:
            daemon.kill()
    # The connection of before did not outlive the crash.
    with Rig(dsn) as rig:
        strict, plain = rig.ticks("strict"), rig.ticks("plain")
        assert len(strict) >= 10
        assert every_second(strict) == []
        # Nothing ran twice: a job for each tick, and each tick of its own.
        jobs = rig.jobs("strict")
        assert sorted(job["tick_at"] for job in jobs) == [tick["tick"] for tick in strict]
        # Every tick is accounted for, also where the job before had not ended or ticks were made up for in one.
        late = sum(tick["stands_for"] - 1 for tick in plain)
        assert len(every_second(plain)) <= late
        assert {tick["state"] for tick in plain} <= {"completed", "enqueued", "overlapped"}


class Backend:
    """A backend whose settings can be changed, and that can be down."""

    def __init__(self, server: FaultyServer) -> None:
        self.server = server

    def says(self, environment: str) -> None:
        body = json.dumps({"enableJobs": True, "schedulerEnvironment": environment}).encode()
        self.server.script(reply(200, body))

    def is_down(self) -> None:
        self.server.script(reply(503))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def nudge(port: int, secret: str = "canary-webhook", body: bytes = b"{}") -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/webhook/settings-changed", body, {"X-Webhook-Secret": secret})
    answer = connection.getresponse()
    status, document = answer.status, json.loads(answer.read())
    connection.close()
    return status, document


@pytest.mark.extended
@pytest.mark.slow
def test_a_settings_change_reaches_every_process_within_two_seconds(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "schedules.toml"
    file.write_text('[schedules.rank]\nevery = "20m"\nscaled = true\npost = "/api/feed/rank"\n')
    with FaultyServer(reply(503)) as server:
        backend, port = Backend(server), free_port()
        environment = {
            "SCHEDULES_FILE": str(file), "BACKEND_URL": server.url, "WORKER_API_KEY": "canary-key",
            "WORKER_WEBHOOK_SECRET": "canary-webhook", "HTTP_HOST": "127.0.0.1",
        }  # fmt: skip
        fleet = [
            rig.daemon(tmp_path, f"daemon{n}", **environment, **({"PORT": str(port)} if n == 0 else {}))
            for n in range(4)
        ]
        for daemon in fleet:
            loaded = daemon.wait_for("schedules_loaded")
            assert (loaded["ticking"], loaded["backend_settings"]) == (0, None)

        def known(environment: str) -> bool:
            settings = {"enableJobs": True, "schedulerEnvironment": environment}
            return all(daemon.log("schedules_loaded")[-1]["backend_settings"] == settings for daemon in fleet)

        for environment_name, period in (("production", 1200), ("dev", 7200), ("staging", 3600)):
            backend.says(environment_name)
            with Stopwatch() as idle:
                status, document = nudge(port)
                assert (status, document["success"], document["message"]) == (200, True, "Schedulers restarted")
                eventually(lambda name=environment_name: known(name), 10)  # type: ignore[misc]
            assert idle.seconds < 2.0
            assert all(daemon.log("schedules_loaded")[-1]["ticking"] == 1 for daemon in fleet)
            next_tick = rig.schedule("rank").next_tick_at
            assert next_tick is not None
            assert next_tick.timestamp() % period == 0

        # With the backend down nothing changes, and it says so.
        backend.is_down()
        before = (rig.schedule("rank"), [len(daemon.log("schedules_loaded")) for daemon in fleet])
        assert nudge(port)[0] == 200
        eventually(lambda: sum(len(daemon.log("backend_settings_failed", last_good_kept=True)) for daemon in fleet), 5)
        assert "503" in rig.value("SELECT last_error FROM jobqueue.backend_settings")
        assert (rig.schedule("rank"), [len(daemon.log("schedules_loaded")) for daemon in fleet]) == before

        # Forged and oversized calls do nothing; a hundred good ones are a fetch or two.
        asked = rig.value("SELECT asked FROM jobqueue.backend_settings")
        assert nudge(port, "wrong") == (401, {"error": "Unauthorized"})
        assert nudge(port, body=b"x" * 70_000)[0] == 413
        assert rig.value("SELECT asked FROM jobqueue.backend_settings") == asked
        backend.says("staging")
        requests = len(server.requests)
        for _ in range(50):
            assert nudge(port)[0] == 200
        eventually(lambda: rig.value("SELECT asked = answered FROM jobqueue.backend_settings"), 10)
        assert len(server.requests) - requests <= 5
        assert (rig.schedule("rank"), [len(daemon.log("schedules_loaded")) for daemon in fleet]) == before


@pytest.mark.extended
@pytest.mark.slow
def test_a_thousand_schedules_cost_an_idle_process_less_than_a_hundredth_of_a_core(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "schedules.toml"
    hour = (rig.now().hour + 12) % 24
    file.write_text(
        "".join(
            f'[schedules.s{n}]\ncron = "{n % 60} {hour} * * *"\ntimezone = "UTC"\nkind = "heartbeat"\n'
            for n in range(1000)
        )
    )
    daemon = rig.daemon(tmp_path, "daemon", SCHEDULES_FILE=str(file))
    assert daemon.wait_for("schedules_loaded", ticking=1000)

    def busy() -> float:
        """Seconds of processor time that the process's threads have used."""
        return (
            sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{daemon.pid}/task").glob("*/schedstat")) / 1e9
        )

    def share() -> float:
        before, began = busy(), time.monotonic()
        eventually(lambda: time.monotonic() - began >= 1.5, interval=0.1)
        return (busy() - before) / (time.monotonic() - began)

    # The first second is still that of starting.
    assert eventually(lambda: (measured := share()) < 0.01 and measured, 10) < 0.01


@pytest.mark.extended
@pytest.mark.slow
def test_the_file_may_change_while_it_runs(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "schedules.toml"
    file.write_text('[schedules.one]\nevery = "1s"\nkind = "heartbeat"\n')
    daemon = rig.daemon(tmp_path, "daemon", SCHEDULES_FILE=str(file))
    eventually(lambda: rig.ticks("one"))
    file.write_text('[schedules.two]\nevery = "1s"\nkind = "heartbeat"\n')
    eventually(lambda: rig.ticks("two"), 5)
    assert rig.schedule("one").removed_at is not None
    # What is wrong, or needs a secret that nobody has read, changes nothing and is said.
    for number, text in enumerate(("[schedules.two]\n", '[targets.t]\nbase_url = "https://t.example.com"\n'), start=1):
        file.write_text(text)
        daemon.wait_for("schedules_file_refused", count=number, timeout=5)
    assert rig.schedule("two").enabled


def test_a_process_that_is_not_primary_never_schedules(rig: Rig, tmp_path: Path) -> None:
    daemon = rig.daemon(tmp_path, "daemon", SCHEDULER_IS_PRIMARY="false")
    rig.rows("INSERT INTO jobs (kind) VALUES ('heartbeat')")
    daemon.wait_for("job_finished", outcome="completed")
    assert rig.rows("SELECT * FROM schedules") == []


@pytest.mark.extended
def test_a_file_that_is_wrong_stops_the_process(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "schedules.toml"
    file.write_text('[schedules.a]\nkind = "x"\n')
    daemon = rig.daemon(tmp_path, "daemon", SCHEDULES_FILE=str(file))
    assert daemon.wait() == 2
    assert "[schedules.a] needs either cron or every; for example" in daemon.output.read_text()
