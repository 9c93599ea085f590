"""`jobqueue doctor`: its lines, its exit codes, and a bundle without any secret."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.cli.helpers import Jobqueue
from tests.cli.terminal import in_terminal
from tests.doctor.helpers import troubles
from tests.faults.pooler import Pooler

from jobqueue.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.doctor.helpers import Healthy

pytestmark = pytest.mark.slow


@pytest.fixture
def command(healthy: Healthy, monkeypatch: pytest.MonkeyPatch) -> Jobqueue:
    """The command, in the healthy system's environment."""
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    for name, value in healthy.environ.items():
        monkeypatch.setenv(name, value)
    return Jobqueue()


def test_piped_it_prints_a_line_for_each_finding(command: Jobqueue) -> None:
    ran = command("doctor")
    lines = {name: (status, says) for status, name, says, _ in ran.rows}

    assert ran.headings == ["status", "check", "finding", "remedy"]
    assert ran.code == 0
    assert lines["store-delete"] == ("ok", "objects can be deleted")
    assert "0 failed" in ran.err


@pytest.mark.extended
def test_a_failure_ends_with_1_a_warning_only_when_it_is_asked_for(command: Jobqueue, healthy: Healthy) -> None:
    healthy.sql("INSERT INTO jobs (kind) VALUES ('heartbeat')")
    assert command("doctor").code == 0
    assert command("doctor", "--strict").code == 1
    healthy.sql("DROP INDEX jobs_claim")
    assert command("doctor").code == 1


def test_a_wrong_configuration_ends_with_2_and_is_told_line_by_line(
    command: Jobqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCURRENCY", "lots")
    monkeypatch.setenv("PORT", "hunter2")
    ran = command("doctor")

    assert ran.code == 2
    assert [line for line in ran.rows if line[0] == "failure"] == [
        ["failure", "environment", "CONCURRENCY must be a whole number from 1 to 1000", "set it, for example CONCURRENCY=3"],
        ["failure", "environment", "PORT must be a whole number from 0 to 65535", "set it, for example PORT=8080"],
    ]  # fmt: skip
    assert "checks could not be made" in ran.err


def test_the_bundle_has_everything_but_secrets(
    command: Jobqueue, healthy: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy.sql(
        "INSERT INTO jobs (kind, status, completed_at, error_message) VALUES ('x', 'failed', now(), 'it said "
        f"{healthy.environ['B2_APP_KEY']} to https://anna:{healthy.environ['RAID_PUBLISHER_SECRET']}@example.com')"
    )
    monkeypatch.setenv("CRON_SECRET", "new-secret-of-the-cron,old-secret-of-the-cron")
    monkeypatch.setenv("RAID_PUBLISHER_SECRET", "wrong-secret-of-the-origin")
    ran = command("doctor", "--json")

    assert ran.code == 1
    assert ran.document["schema"] == "jobqueue.doctor/1"
    assert ran.document["settings"]["b2_bucket"] == healthy.store.bucket
    assert {queue["queue"] for queue in ran.document["stats"]["queues"]} >= {"jobs", "publish_jobs"}
    assert "it said ***" in ran.out
    for secret in load_settings(os.environ).secrets():
        assert secret not in ran.out + ran.err


@pytest.mark.extended
def test_on_a_terminal_a_remedy_stands_below_what_it_mends(command: Jobqueue, healthy: Healthy) -> None:
    healthy.sql("INSERT INTO jobs (kind) VALUES ('heartbeat')")
    environment = {**healthy.environ, "PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "src")}
    screen = in_terminal(["doctor"], environment, columns=60)

    assert screen.code == 0
    _, _, after = screen.text.partition("no worker is alive that serves jobs (1)\n")
    assert after.lstrip().startswith("do: start `jobqueue worker`")


@pytest.mark.servers
def test_a_pooler_without_a_way_past_it_is_found(healthy: Healthy, server_folder: Path) -> None:
    direct = healthy.environ["DATABASE_URL"]
    with Pooler(server_folder / "doctors-pooler", direct) as pooler:
        healthy.environ["DATABASE_URL"] = pooler.dsn
        [found] = troubles(healthy.examine("pooler", "direct-connection"))
        assert (found.name, found.remedy) == ("pooler", "set DATABASE_DIRECT_URL to the database itself")

        healthy.environ["DATABASE_DIRECT_URL"] = direct
        assert troubles(healthy.examine("pooler", "direct-connection")) == []

        healthy.environ["DATABASE_DIRECT_URL"] = pooler.dsn + "?connect_timeout=9"
        [found] = troubles(healthy.examine("pooler", "direct-connection"))
        assert found.says == "DATABASE_DIRECT_URL leads through a transaction pooler"
