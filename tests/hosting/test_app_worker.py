"""`jobqueue worker --app`: a host's program as a daemon, with nothing set but the database."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest
from tests.structure.helpers import ROOT
from tests.support.daemon import Launch, clean_environment, launching
from tests.support.waiting import eventually

from jobqueue.demo.launch import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.helpers import Rig

pytestmark = pytest.mark.slow

BILLING = "tests.hosting.billing"


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    with launching(tmp_path) as launch:
        yield launch


def run_worker(dsn: str, *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobqueue", "worker", "--once", *arguments],
        env={**clean_environment(), "DATABASE_URL": dsn, "PORT": "0"},
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_hosts_program_is_a_daemon(rig: Rig, launch: Launch) -> None:
    port = free_port()
    daemon = launch({"DATABASE_URL": rig.dsn, "PORT": str(port), "HTTP_HOST": HOST}, "--app", f"{BILLING}:app")
    assert daemon.wait_for("worker_started")["queues"] == ["invoices", "jobs"]
    rig.insert(2, "invoices", customer="Ada")
    rig.insert(kind="report", payload='{"project": "Ada", "pages": 3}')
    eventually(lambda: rig.rows("SELECT 1 FROM invoices WHERE status = 'completed' HAVING count(*) = 5"), 30.0)
    assert rig.value("SELECT sum(amount) FROM invoices") == 10
    with urllib.request.urlopen(f"http://{HOST}:{port}/readyz") as answer:
        assert json.load(answer)["status"] == "ok"
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics") as answer:
        assert b'jobqueue_jobs_finished_total{outcome="completed",queue="invoices"} 5.0' in answer.read()
    # The packaged schedules tick here as beside the built-in queues, and their jobs have somebody who does them.
    eventually(lambda: rig.rows("SELECT 1 FROM schedules WHERE name = 'heartbeat'"), 30.0)
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0


def test_queues_are_chosen_among_ours_and_theirs(rig: Rig, launch: Launch) -> None:
    environment = {"DATABASE_URL": rig.dsn, "PORT": "0"}
    names = ("webhook_deliveries", "invoices")
    arguments = [word for name in names for word in ("--queue", name)]
    daemon = launch(environment, "--app", f"{BILLING}:app", *arguments)
    assert daemon.wait_for("worker_started")["queues"] == ["invoices", "webhook_deliveries"]
    wrong = run_worker(rig.dsn, "--app", f"{BILLING}:app", "--queue", "invoice")
    assert wrong.returncode == 2
    assert wrong.stderr.endswith("for example --queue invoices\n")


@pytest.mark.extended
def test_what_is_wrong_with_a_program_is_told_in_lines(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import jobqueue\n\napp = jobqueue.App()\nraise ValueError('no key')\n")
    (tmp_path / "typing_error.py").write_text("import jobqueue\n\napp = jobqueue.App(\n")
    (tmp_path / "lacking.py").write_text("import nobody_has_this\n")
    names = [
        "billing",
        "nowhere.jobs:app",
        f"{BILLING}:ap",
        f"{BILLING}:number",
        "broken:app",
        "typing_error:app",
        "lacking:app",
    ]
    arguments = [word for name in names for word in ("--app", name)]
    done = run_worker(rig.dsn, *arguments, folder=tmp_path)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, len(names)), done.stderr
    assert lines[0] == "--app billing: it names a module and an App in it, for example --app billing.jobs:app"
    assert lines[1].startswith("--app nowhere.jobs:app: there is no module nowhere in ")
    assert lines[2] == f"--app {BILLING}:ap: the module {BILLING} has no ap; did you mean --app {BILLING}:app"
    assert lines[3] == f"--app {BILLING}:number: number is of the type int, not jobqueue.App"
    assert lines[4] == f"--app broken:app: to import it raised ValueError: no key ({tmp_path}/broken.py, line 4)"
    assert lines[5].startswith("--app typing_error:app: to import it raised SyntaxError: ")
    assert lines[6].startswith(
        "--app lacking:app: to import it raised ModuleNotFoundError: No module named 'nobody_has_this'"
    )


@pytest.mark.extended
def test_a_table_that_does_not_serve_its_handler_is_told_in_lines(rig: Rig) -> None:
    done = run_worker(rig.dsn, "--app", f"{BILLING}:spoilt")
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            "the table public.invoices of the queue invoices has no column 'amuont' (did you mean 'amount'?)",
            "there is no queue 'drafts': the table public.drafts was not adopted; SELECT jobqueue.adopt('public.drafts')",
        ],
    )
