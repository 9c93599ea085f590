"""Every command of the page for trouble runs as it is written, and its statements too."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
from tests.cli.helpers import Jobqueue
from tests.structure.helpers import ROOT

from jobqueue.settings import load_settings

if TYPE_CHECKING:
    from tests.support.host import Host

PAGE = (ROOT / "docs/how-to/troubleshooting.md").read_text()

COMMANDS = sorted(set(re.findall(r"`jobqueue ([^`]+)`", PAGE)))

# These go on for ever, try servers that are not there, or stand for themselves.
NOT_RUN = {"doctor", "doctor --json", "stats --watch"}


@pytest.fixture
def host(shared_host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    for name in ("DATABASE_DIRECT_URL", "PGHOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", shared_host.dsn)
    return shared_host


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) > 8
    assert set(COMMANDS) >= NOT_RUN


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in NOT_RUN])
def test_a_command_runs_as_it_is_written(command: str, host: Host) -> None:
    host.clear()
    host.execute("TRUNCATE app_webhooks, projects CASCADE")
    ids = {
        "publish_jobs": host.enqueue("a.jpg"),
        "webhooks": host.rows("INSERT INTO app_webhooks (webhook_url) VALUES ('https://a.example.com') RETURNING id")[
            0
        ]["id"],
        "download_artifacts": host.rows(
            "WITH p AS (INSERT INTO projects (name) VALUES ('p') RETURNING id)"
            " INSERT INTO download_artifacts (project_id) SELECT id FROM p RETURNING id"
        )[0]["id"],
    }
    words = shlex.split(command)
    subject = next((name for name in ids if name in words), "publish_jobs")
    ran = Jobqueue()(*(ids[subject] if word == "ID" else word for word in words))

    assert ran.code == 0, ran.err


@pytest.mark.parametrize("statement", re.findall(r"`(SELECT [^`]+)`", PAGE))
def test_a_statement_runs_as_it_is_written(statement: str, host: Host) -> None:
    host.execute(statement.replace("%", "%%"))


def test_every_variable_that_the_page_names_is_one() -> None:
    variables = {name.upper() for name in type(load_settings({"DATABASE_URL": "postgresql://localhost"})).model_fields}
    named = set(re.findall(r"`([A-Z][A-Z0-9_]{3,})`", PAGE))

    assert named - variables == {"TMPDIR", "PROCESSING"}
