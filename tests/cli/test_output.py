"""What every command prints: whole ids at any width, headings in a pipe, nothing that a terminal obeys, and no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.terminal import in_terminal
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue

ID = "12345678-90ab-4cde-8f01-234567890abc"
FILE = "00000000-0000-4000-8000-00000000000f"
NAME = "every-night-at-three-for-all-of-the-customers"
WORKER = "worker-7f9c4d5b68-abcde:4242-0a1b"
LONG = "the-object-under-a-very-long-name/" * 4

# What each command that prints a table must show whole, and the heading of its first column in a pipe.
TABLES = {
    ("jobs", "list", "publish_jobs"): ((ID,), "id"),
    ("jobs", "list", "jobs"): (("4611686018427387904", "kind-of-a-host"), "id"),
    ("jobs", "show", "publish_jobs", ID): ((ID, FILE), "column"),
    ("stats",): (("download_artifacts", "webhook_deliveries"), "queue"),
    ("webhooks", "list"): ((ID, "https://hooks.example.com/" + LONG), "id"),
    ("schedules", "list"): ((NAME,), "name"),
    ("publish", LONG): ((), "source_key"),
}

SEPARATOR = "-- next --"

# Starting Python takes longer than any of the commands.
ONE_BY_ONE = f"""
import sys
from jobqueue.cli.main import app
for command in sys.argv[1:]:
    print({SEPARATOR!r})
    app(command.split(), standalone_mode=False)
"""

ESC = "\x1b]0;owned\x07\x1b[31m"


@pytest.fixture
def rows(sql: Database) -> None:
    """A row for each table, with long names and with texts that a terminal would obey."""
    sql("INSERT INTO auction_files (id, source_key) VALUES (%s, 'a.jpg')", FILE)
    sql("INSERT INTO publish_jobs (id, file_id) VALUES (%s, %s)", ID, FILE)
    sql("UPDATE publish_jobs SET status = 'failed', error_message = %s || repeat('long ', 40)", ESC)
    sql("INSERT INTO jobs (id, kind) VALUES (4611686018427387904, 'kind-of-a-host')")
    sql("INSERT INTO jobs (kind) VALUES (%s)", ESC)
    sql(
        "INSERT INTO app_webhooks (id, app_id, webhook_url, subscribed_events, disabled_reason) VALUES (%s, %s, %s, %s, %s)",
        ID, ESC, "https://hooks.example.com/" + LONG, [f"order.{ESC}"] * 3, ESC,
    )  # fmt: skip
    sql(
        "INSERT INTO schedules (name, kind, every_seconds, paused_at, paused_by) VALUES (%s, %s, 60, now(), %s)",
        NAME,
        ESC,
        ESC,
    )
    sql("INSERT INTO schedules (name, kind, every_seconds) VALUES (%s, 'x', 60)", ESC)
    sql(
        "INSERT INTO jobqueue.workers (name, version, queues, concurrency) VALUES (%s, '1', %s, 1)",
        WORKER,
        ["jobs", ESC],
    )


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_terminal_of_any_width_shows_whole_what_identifies_a_row(
    columns: int, jobqueue: Jobqueue, rows: None, environment: dict[str, str]
) -> None:
    commands = [" ".join(command) for command in TABLES]
    screen = in_terminal(commands, environment, columns=columns, program=["-c", ONE_BY_ONE])
    shown = screen.text.split(SEPARATOR)[1:]

    assert screen.code == 0
    assert len(shown) == len(TABLES)
    for text, (command, (identifying, _)) in zip(shown, TABLES.items(), strict=True):
        assert "…" not in text
        for whole in (*identifying, *([WORKER] if command == ("stats",) else [])):
            assert whole in text, command
    assert "\x1b]" not in screen.raw
    assert "\x07" not in screen.raw


@pytest.mark.parametrize("command", TABLES, ids=" ".join)
def test_a_pipe_gets_whole_values_below_their_headings(
    command: tuple[str, ...], jobqueue: Jobqueue, rows: None
) -> None:
    ran = jobqueue(*command)
    identifying, heading = TABLES[command]

    assert ran.code == 0
    assert ran.headings[0] == heading
    assert {len(row) for row in ran.rows} == {len(ran.headings)}
    for text in identifying:
        assert any(text in row for row in ran.rows)
    assert "\x1b" not in ran.out


@pytest.mark.parametrize(
    "command", [["jobs", "list", "jobs"], ["webhooks", "list"], ["schedules", "list"]], ids=" ".join
)
def test_where_there_is_nothing_the_headings_stand_alone(command: list[str], jobqueue: Jobqueue) -> None:
    ran = jobqueue(*command)

    assert (ran.code, len(ran.out.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    "command",
    [
        ["jobs", "list", "nope"], ["jobs", "show", "jobs", "99"], ["jobs", "why", "jobs", "99"], ["jobs", "why", "nope", "1"],
        ["jobs", "requeue", "nope", "1"], ["schedules", "list", "nope"], ["schedules", "run", "nope"],
        ["schedules", "pause", "nope"], ["webhooks", "enable", ID], ["webhooks", "replay", ID, "--yes"], ["artifact", ID],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_id_or_a_name_that_is_not_there_is_a_no(command: list[str], jobqueue: Jobqueue) -> None:
    ran = jobqueue(*command)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("there is no ")


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["--help"], ["--version"], ["stats"], ["stats", "--json"], ["jobs", "list", "jobs"]], ids=" ".join
)
def test_a_full_disk_behind_standard_output_is_a_line(
    command: list[str], jobqueue: Jobqueue, environment: dict[str, str]
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jobqueue", *command], env=environment, stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    assert (done.returncode, done.stderr) == (1, "standard output cannot be written: No space left on device\n")


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_a_worker_that_runs_once_is_no_traceback(
    number: signal.Signals, jobqueue: Jobqueue, sql: Database, environment: dict[str, str]
) -> None:
    sql("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END'")
    sql("CREATE TRIGGER slow BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION slow()")
    sql("INSERT INTO jobs (kind) SELECT 'heartbeat' FROM generate_series(1, 100)")
    command = [sys.executable, "-m", "jobqueue", "worker", "--once", "--queue", "jobs"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        eventually(lambda: sql.value("SELECT count(*) FROM jobs WHERE status = 'processing'"))
        process.send_signal(number)
        _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (0, "")


def test_a_fault_of_ours_is_a_line_without_what_it_says(environment: dict[str, str]) -> None:
    code = (
        "import jobqueue.cli.main as main\n"
        "def broken(*_, **__): raise KeyError('hunter2')\n"
        "main.app = broken\n"
        "main.main()"
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "this is a fault of jobqueue: KeyError; JOBQUEUE_TRACEBACK=1 shows where, for a report\n"
    )  # fmt: skip
