"""The command as a whole: help, exit codes, and failures of the outside world in a line."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.cli.terminal import in_terminal
from tests.support.interrupting import interruptible

from jobqueue import __version__

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue

    from jobqueue.demo.embedded_postgres import Postgres

COMMANDS = [
    ["demo"],
    ["worker"],
    ["migrate"],
    ["doctor"],
    ["stats"],
    ["publish"],
    ["jobs", "list"],
    ["jobs", "show"],
    ["jobs", "why"],
    ["jobs", "requeue"],
    ["jobs", "cancel"],
    ["jobs", "purge"],
]


def _run(*args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobqueue", *args], env=env, capture_output=True, text=True, timeout=20, check=False
    )


def test_help_lists_every_command(offline: Jobqueue) -> None:
    ran = offline("--help")
    assert ran.code == 0
    for command in ("demo", "worker", "migrate", "stats", "jobs", "publish"):
        assert f" {command} " in ran.out
    group = offline("jobs", "--help")
    for command in ("list", "show", "why", "requeue", "cancel", "purge"):
        assert f" {command} " in group.out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str], offline: Jobqueue) -> None:
    ran = offline(*command, "--help")
    assert ran.code == 0
    assert f"Example: jobqueue {' '.join(command)}" in ran.out


def test_version(environment: dict[str, str]) -> None:
    done = _run("--version", env=environment)
    assert (done.returncode, done.stdout) == (0, f"jobqueue {__version__}\n")


def test_help_waits_for_nothing_heavy(environment: dict[str, str]) -> None:
    heavy = "pyvips boto3 starlette uvicorn psycopg pydantic_settings urllib3 PIL prometheus_client"
    code = f"import sys, jobqueue.cli.main; print(sorted(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("args", [["nonsense"], ["stats", "--nonsense"], ["jobs", "show", "jobs"], ["publish"]])
def test_wrong_usage_is_2(args: list[str], offline: Jobqueue) -> None:
    assert offline(*args).code == 2


def test_no_configuration_is_2_and_says_what_to_set(environment: dict[str, str]) -> None:
    done = _run("stats", env={**environment, "PORT": "many"})
    assert done.returncode == 2
    assert done.stdout == ""
    database, port = done.stderr.splitlines()
    assert database.startswith("DATABASE_URL is not set; for example DATABASE_URL=")
    assert port.startswith("PORT must be")


def test_no_database_is_1_in_one_line_without_the_password(environment: dict[str, str]) -> None:
    environment["DATABASE_URL"] = "postgresql://worker:hunter2-hunter2@127.0.0.1:1/app"
    done = _run("jobs", "list", "jobs", env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("the database cannot be reached: ")
    assert "127.0.0.1" in line
    assert "hunter2" not in line


def test_a_wrong_password_is_not_repeated(postgres: Postgres, environment: dict[str, str]) -> None:
    environment["DATABASE_URL"] = f"postgresql://postgres:wrong-wrong-wrong@127.0.0.1:{postgres.port}/postgres"
    done = _run("migrate", "--dry-run", env=environment)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "password authentication failed" in done.stderr
    assert "wrong-wrong" not in done.stderr + done.stdout


def test_a_database_that_was_never_migrated(
    postgres: Postgres, offline: Jobqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.dsn)
    for command in (["stats"], ["jobs", "list", "jobs"], ["publish", "a.jpg"]):
        ran = offline(*command)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == "this database has not been prepared: run `jobqueue migrate`\n"


def test_what_the_role_may_not_do_is_said(
    sql: Database, jobqueue: Jobqueue, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"reader_{database.rpartition('_')[2]}"
    sql(f"CREATE ROLE {role} LOGIN PASSWORD 'secret-of-reader'")
    try:
        monkeypatch.setenv(
            "DATABASE_URL",
            database.replace("postgres:", f"{role}:", 1).replace(
                database.split(":")[2].split("@", maxsplit=1)[0], "secret-of-reader"
            ),
        )
        ran = jobqueue("stats")
        assert ran.code == 1
        assert ran.err == (
            f"the role {role} may not do this: permission denied for schema jobqueue; it lacks GRANT USAGE ON SCHEMA jobqueue TO"
            f" {role}; `jobqueue roles --apply`, run as who owns the database, grants what our roles need\n"
        )
    finally:
        sql(f"DROP ROLE {role}")


def test_ctrl_c_is_130(jobqueue: Jobqueue, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "jobqueue", "stats", "--watch", "--interval", "0.5", "--json"]
    with interruptible(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert first.startswith(b'{"schema": "jobqueue.stats/1"')
    assert second.startswith(b'{"schema": "jobqueue.stats/1"')
    assert process.returncode == 130
    assert said == b""


def test_a_reader_that_goes_away_is_no_traceback(
    jobqueue: Jobqueue, sql: Database, environment: dict[str, str]
) -> None:
    sql("INSERT INTO jobs (kind, error_message) SELECT 'x', repeat('y', 1000) FROM generate_series(1, 500)")
    command = [sys.executable, "-m", "jobqueue", "jobs", "list", "jobs", "--limit", "500"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert b"Traceback" not in said


def test_the_password_appears_nowhere(
    jobqueue: Jobqueue, sql: Database, database: str, environment: dict[str, str]
) -> None:
    password = database.split(":")[2].split("@", maxsplit=1)[0]
    sql("INSERT INTO jobs (kind) VALUES ('x')")
    for args in (
        ["stats"],
        ["stats", "--json"],
        ["jobs", "show", "jobs", "1"],
        ["jobs", "purge", "jobs"],
        ["jobs", "list", "x"],
    ):
        ran = jobqueue(*args)
        assert password not in ran.out + ran.err
    assert password not in in_terminal(["stats"], environment).raw
