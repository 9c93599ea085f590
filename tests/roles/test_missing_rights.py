"""What is told where a right is missing: to people at the command line, in the worker's log, and in a job's row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.daemon import launching
from typer.testing import CliRunner

from jobqueue.cli.main import app
from jobqueue.errors import ConfigurationError
from jobqueue.kernel import Queue, Worker, WorkerOptions
from jobqueue.roles.database_roles import grant_roles

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg import Cursor
    from tests.roles.helpers import Administered

    from jobqueue.kernel import Context, Handler, Job

_GRANTED = "`jobqueue roles --apply`, run as who owns the database, grants what our roles need"


@pytest.fixture
def migrated(administered: Administered) -> Administered:
    administered.migrate()
    return administered


def _said(administered: Administered, role: str, *arguments: str) -> str:
    ran = CliRunner().invoke(
        app, [*arguments], env={"DATABASE_URL": administered.addresses[role]}, prog_name="jobqueue"
    )
    assert ran.exit_code == 1
    return ran.stderr.strip()


def test_a_command_names_the_role_and_the_right(migrated: Administered) -> None:
    migrated.rows("REVOKE SELECT ON jobqueue.workers FROM jobqueue_reader")
    assert _said(migrated, "reader", "stats") == (
        "the role jobqueue_reader may not do this: permission denied for table workers; "
        f"it lacks GRANT SELECT ON jobqueue.workers TO jobqueue_reader; {_GRANTED}"
    )


def test_a_command_that_is_not_for_this_role(migrated: Administered) -> None:
    migrated.rows("INSERT INTO jobs (kind) VALUES ('x')")
    assert _said(migrated, "reader", "jobs", "cancel", "jobs", "--all", "--yes") == (
        f"the role jobqueue_reader may not do this: permission denied for table audit; {_GRANTED}"
    )
    assert _said(migrated, "host", "stats") == (
        "the role jobqueue_host may not do this: permission denied for schema jobqueue; "
        f"it lacks GRANT USAGE ON SCHEMA jobqueue TO jobqueue_host; {_GRANTED}"
    )


def test_doctor_finds_nothing_amiss_with_the_role_of_a_worker(migrated: Administered) -> None:
    migrated.rows("ALTER TABLE jobs ENABLE ROW LEVEL SECURITY")
    environment = {"DATABASE_URL": migrated.addresses["worker"]}
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"], env=environment, prog_name="jobqueue").stdout)
    by_name = {each["check"]: each["status"] for each in found["checks"]}
    assert (by_name["role"], by_name["table-rights"], by_name["row-security"]) == ("ok", "ok", "failure")
    assert grant_roles(migrated.addresses["migrate"]) == []
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"], env=environment, prog_name="jobqueue").stdout)
    assert {each["check"]: each["status"] for each in found["checks"]}["row-security"] == "ok"


@pytest.mark.extended
@pytest.mark.slow
def test_a_loop_names_the_role_and_the_right(migrated: Administered, tmp_path: Path) -> None:
    migrated.rows("REVOKE INSERT ON jobqueue.workers FROM jobqueue_worker")
    environment = {"DATABASE_URL": migrated.addresses["worker"], "PORT": "0"}
    with launching(tmp_path) as launch:
        failed = launch(environment, "--queue", "jobs").wait_for("loop_failed", loop="heartbeat")
    assert failed["error"] == (
        "the role jobqueue_worker may not do this: permission denied for table workers; "
        f"it lacks GRANT INSERT ON jobqueue.workers TO jobqueue_worker; {_GRANTED}"
    )


def test_a_hosts_trigger_that_the_worker_has_no_right_for(migrated: Administered) -> None:
    migrated.rows(
        "CREATE TABLE done (id bigint); INSERT INTO jobs (kind) VALUES ('x');"
        "CREATE FUNCTION note_done() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO done VALUES (NEW.id); RETURN NULL; END';"
        "CREATE TRIGGER note_done AFTER UPDATE ON jobs FOR EACH ROW WHEN (NEW.status = 'completed') EXECUTE FUNCTION note_done()"
    )
    _worker(migrated, lambda *_: None).run_once(20.0)
    [(said,)] = migrated.rows("SELECT error_message FROM jobs")
    refused = f"the role jobqueue_worker may not do this: permission denied for table done; {_GRANTED}"
    assert said == f"the database refused to record the job's completion: {refused}"


def test_a_handlers_own_table(migrated: Administered) -> None:
    def insert(cursor: Cursor[Any]) -> None:
        cursor.execute(b"INSERT INTO mine VALUES (1)")

    def write(_: Job, context: Context) -> None:
        context.write(insert)

    migrated.rows("CREATE TABLE mine (id int); INSERT INTO jobs (kind) VALUES ('x')")
    _worker(migrated, write).run_once(20.0)
    [(said,)] = migrated.rows("SELECT error_message FROM jobs")
    assert said.startswith("InsufficientPrivilege: permission denied for table mine")
    assert said.endswith(f"; the worker's role lacks a right: {_GRANTED}, and you what is on tables of yours")


def test_a_table_that_hides_its_jobs(migrated: Administered) -> None:
    """Nothing would fail: the worker would wait for jobs for ever."""
    migrated.rows("ALTER TABLE jobs ENABLE ROW LEVEL SECURITY; INSERT INTO jobs (kind) VALUES ('x')")
    with pytest.raises(ConfigurationError) as told:
        _worker(migrated, lambda *_: None).start()
    [said] = told.value.problems
    assert said.endswith(
        "of the queue jobs has row-level security, and no policy shows its jobs to the role jobqueue_worker: "
        "`jobqueue migrate` makes one for jobqueue_worker"
    )
    migrated.rows("CREATE POLICY seen ON jobs FOR SELECT USING (true)")
    with pytest.raises(ConfigurationError):
        _worker(migrated, lambda *_: None).start()
    assert grant_roles(migrated.addresses["migrate"]) == []
    _worker(migrated, lambda *_: None).run_once(20.0)
    assert migrated.rows("SELECT status FROM jobs") == [("completed",)]


def _worker(administered: Administered, handler: Handler) -> Worker:
    return Worker(WorkerOptions(administered.addresses["worker"], poll_seconds=1.0), [Queue("jobs", handler)])
