"""`jobqueue roles`: what it prints is what it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.roles import as_role, let_in

from jobqueue.roles.database_roles import make_roles_sql

if TYPE_CHECKING:
    import pytest
    from tests.cli.helpers import Database, Jobqueue


def test_it_prints_sql_and_changes_nothing(offline: Jobqueue) -> None:
    ran = offline("roles")
    assert (ran.code, ran.out, ran.err) == (0, make_roles_sql(), "")


def test_it_runs_it(sql: Database, jobqueue: Jobqueue) -> None:
    ran = jobqueue("roles", "--apply")
    assert (ran.code, ran.out) == (0, "the roles are there\n")
    assert sql("SELECT has_table_privilege('jobqueue_worker', 'jobqueue.workers', 'INSERT')") == [(True,)]


def test_who_may_make_no_roles_is_told(
    database: str, sql: Database, jobqueue: Jobqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in(database)
    sql("REVOKE USAGE ON SCHEMA public FROM PUBLIC, jobqueue_worker")
    monkeypatch.setenv("DATABASE_URL", as_role(database, "worker"))
    ran = jobqueue("roles", "--apply")
    assert (ran.code, ran.out) == (1, "")
    assert "permission denied for schema public" in ran.err
    sql("GRANT USAGE ON SCHEMA public TO PUBLIC")
