"""`jobqueue jobs requeue` and `cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from tests.cli.terminal import in_terminal

from jobqueue.admin import repair

if TYPE_CHECKING:
    from uuid import UUID

    from tests.cli.helpers import Database, Jobqueue


def _fill(sql: Database) -> None:
    sql("TRUNCATE jobs RESTART IDENTITY")
    sql("INSERT INTO jobs (kind) SELECT CASE WHEN n > 4 THEN 'report' ELSE 'mail' END FROM generate_series(1, 6) n")
    sql(
        "UPDATE jobs SET status = 'failed', retry_count = 5, crash_count = 2, error_message = 'timeout of peer ' || id "
        "WHERE id < 6"
    )
    sql("UPDATE jobs SET error_message = '503 from the store', completed_at = now() - interval '3 hours' WHERE id = 1")
    sql("UPDATE jobs SET status = 'completed' WHERE id = 6")


@pytest.fixture
def failed(sql: Database) -> None:
    """Jobs 1 to 6: five failed in two ways and at two times, one done."""
    _fill(sql)


def _rows(sql: Database) -> list[tuple[Any, ...]]:
    return sql("SELECT * FROM jobs ORDER BY id")


def _in(sql: Database, status: str) -> list[int]:
    return [row[0] for row in sql("SELECT id FROM jobs WHERE status = %s ORDER BY id", status)]


def test_requeue_starts_afresh(failed: None, sql: Database, jobqueue: Jobqueue) -> None:
    ran = jobqueue("jobs", "requeue", "jobs", 3)
    assert (ran.code, ran.out, ran.err) == (0, "requeued 1 job of jobs\n", "")
    assert _in(sql, "pending") == [3]
    (row,) = sql(
        "SELECT retry_count, crash_count, run_after <= now(), position IS NOT NULL, completed_at, error_message FROM jobs WHERE id = 3"
    )
    assert row == (0, 0, True, True, None, "timeout of peer 3")


def test_requeue_by_filter(sql: Database, jobqueue: Jobqueue) -> None:
    for args, expected in {
        "--all": [1, 2, 3, 4, 5],
        "--status failed": [1, 2, 3, 4, 5],
        "--error 503": [1],
        "--older 2h": [1],
        "--kind report": [5],
        "--error timeout --kind mail": [2, 3, 4],
        "--status completed": [6],
        "--status completed --status failed --kind report": [5, 6],
    }.items():
        _fill(sql)
        before = _rows(sql)
        dry = jobqueue("jobs", "requeue", "jobs", *args.split(), "--dry-run")
        assert dry.code == 0
        assert dry.out.startswith(f"would requeue {len(expected)} job"), args
        assert sorted(int(row[0]) for row in dry.rows[1:]) == expected[:5], args
        assert _rows(sql) == before
        ran = jobqueue("jobs", "requeue", "jobs", *args.split(), "--yes")
        assert (ran.code, ran.out) == (0, f"requeued {len(expected)} job{'s' if len(expected) > 1 else ''} of jobs\n")
        assert _in(sql, "pending") == expected, args


def test_documents(failed: None, jobqueue: Jobqueue) -> None:
    dry = jobqueue("jobs", "requeue", "jobs", "--error", "timeout", "--dry-run", "--json").document
    assert [job["id"] for job in dry.pop("samples")]
    head = {"schema": "jobqueue.repair/1", "action": "requeue", "queue": "jobs"}
    assert dry == {**head, "dry_run": True, "matched": 4, "matched_is_exact": True}
    ran = jobqueue("jobs", "requeue", "jobs", 2, 6, 77, "--yes", "--json")
    done = {"changed": 2, "coalesced": 0, "locked": 0, "more": False, "unchanged_ids": ["77"]}
    assert ran.document == {**head, "dry_run": False, **done}
    assert ran.code == 1


def test_nobody_to_ask_is_2_and_changes_nothing(failed: None, sql: Database, jobqueue: Jobqueue) -> None:
    before = _rows(sql)
    for command in ("requeue", "cancel"):
        for args in (["--all"], ["--error", "timeout"], ["1", "2"]):
            ran = jobqueue("jobs", command, "jobs", *args, typed="y\n")
            assert (ran.code, ran.out) == (2, "")
            assert "--yes" in ran.err
            assert "--dry-run" in ran.err
    assert _rows(sql) == before


@pytest.mark.extended
def test_a_person_is_asked(failed: None, sql: Database, jobqueue: Jobqueue, environment: dict[str, str]) -> None:
    for answer, code, left in (("\n", 1, 5), ("n\n", 1, 5), ("y\n", 0, 0)):
        screen = in_terminal(["jobs", "requeue", "jobs", "--all"], environment, typed=answer)
        assert "Requeue 5 jobs of jobs? [y/N]" in screen.text
        assert screen.code == code
        assert len(_in(sql, "failed")) == left


def test_what_cannot_be_asked_is_2(failed: None, sql: Database, jobqueue: Jobqueue) -> None:
    before = _rows(sql)
    for args, said in (
        ([], "say which jobs"),
        (["1", "--error", "x"], "not both"),
        (["1", "--all"], "not both"),
        (["one", "2", "three"], "'one' cannot be a job of jobs, whose ids are each a whole number\n'three' cannot"),
        (["-s", "processing"], "requeue does not take processing jobs; it takes pending, failed, cancelled, completed"),
        (["--status", "odd"], "has no state 'odd'"),
        (["--older", "soon"], "length of time"),
        (["--kind", " "], "--kind is empty"),
    ):
        ran = jobqueue("jobs", "requeue", "jobs", *args, "--yes")
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err
    assert _rows(sql) == before


def test_each_id_that_could_not_be_requeued_is_explained(failed: None, sql: Database, jobqueue: Jobqueue) -> None:
    sql("INSERT INTO jobs (id, kind) VALUES (10, 'x'), (11, 'x')")
    sql("UPDATE jobs SET status = 'processing' WHERE id = 11")
    ran = jobqueue("jobs", "requeue", "jobs", 1, 10, 11, 12, "--yes")
    assert (ran.code, ran.out) == (1, "requeued 1 job of jobs\n")
    assert ran.err.splitlines() == [
        "job 10 is pending and due already",
        "job 11 is processing: cancel it first, or let it end",
        "there is no job 12 in jobs",
    ]


def test_delayed_jobs_can_be_made_due(sql: Database, jobqueue: Jobqueue) -> None:
    sql("INSERT INTO jobs (kind, run_after) VALUES ('x', now() + interval '1 day'), ('x', now())")
    # A suspect has no position although its time has come; this one is to be forgiven.
    sql("UPDATE jobs SET crash_count = 3, retry_count = 3 WHERE id = 1")
    (due,) = sql("SELECT position FROM jobs WHERE id = 2")
    assert jobqueue("jobs", "requeue", "jobs", "--status", "pending", "-y").out == "requeued 1 job of jobs\n"
    assert sql("SELECT position > %s, run_after <= now(), crash_count FROM jobs WHERE id = 1", *due) == [
        (True, True, 0)
    ]
    assert sql("SELECT position FROM jobs WHERE id = 2") == [due]


def _publish_jobs(sql: Database, number: int, file_id: UUID) -> list[UUID]:
    ids = [uuid4() for _ in range(number)]
    for id_ in ids:
        sql("INSERT INTO publish_jobs (id, file_id) VALUES (%s, %s)", id_, file_id)
        sql("UPDATE publish_jobs SET status = 'failed' WHERE id = %s", id_)
    return ids


def test_uuids_and_twins(sql: Database, jobqueue: Jobqueue) -> None:
    file_id = uuid4()
    sql("INSERT INTO auction_files (id, source_key) VALUES (%s, 'a.jpg')", file_id)
    ids = _publish_jobs(sql, 2, file_id)
    ran = jobqueue("jobs", "requeue", "publish_jobs", *ids, str(ids[0]).upper(), "--yes")
    assert (ran.code, ran.out) == (0, "requeued 1 job of publish_jobs\n")
    assert ran.err == "1 had a pending twin already and ended cancelled: one run does for both\n"
    assert sorted(sql("SELECT status FROM publish_jobs")) == [("cancelled",), ("pending",)]
    assert sql("SELECT publish_status FROM auction_files") == [("pending",)]


def test_own_words(sql: Database, own_words: str, jobqueue: Jobqueue) -> None:
    sql("INSERT INTO orders SELECT FROM generate_series(1, 4)")
    sql("UPDATE orders SET status = 'BROKEN' WHERE id < 3")
    assert jobqueue("jobs", "requeue", "orders", "--status", "BROKEN", "-y").out == "requeued 2 jobs of orders\n"
    assert jobqueue("jobs", "cancel", "orders", "--status", "NEW", "-y").out == "cancelled 4 jobs of orders\n"
    assert sql("SELECT DISTINCT status FROM orders") == [("VOID",)]


def test_cancel_takes_the_lease_away(sql: Database, jobqueue: Jobqueue) -> None:
    sql("INSERT INTO jobs (kind) SELECT 'x' FROM generate_series(1, 3)")
    sql(
        "UPDATE jobs SET status = 'processing', lease_token = gen_random_uuid(), locked_by = 'w', error_message = 'first try', "
        "lease_expires_at = now() + interval '1 minute' WHERE id = 1"
    )
    sql("UPDATE jobs SET status = 'completed' WHERE id = 3")
    with psycopg.connect(sql.connection.info.dsn, password=sql.connection.info.password, autocommit=True) as listener:
        listener.execute("LISTEN jobqueue")
        ran = jobqueue("jobs", "cancel", "jobs", "--all", "--yes")
        heard = [notification.payload for notification in listener.notifies(timeout=10, stop_after=1)]
    assert (ran.code, ran.out) == (0, "cancelled 2 jobs of jobs\n")
    assert heard == ["revoked jobs"]
    assert sql(
        "SELECT id, status, lease_token, locked_by, completed_at IS NOT NULL, error_message FROM jobs ORDER BY id"
    ) == [
        (1, "cancelled", None, None, True, "cancelled by an operator; last error: first try"),
        (2, "cancelled", None, None, True, "cancelled by an operator"),
        (3, "completed", None, None, True, None),
    ]
    again = jobqueue("jobs", "cancel", "jobs", 3)
    assert (again.code, again.err) == (1, "job 3 is completed: cancel takes pending, processing jobs\n")


def test_locked_jobs_are_come_back_to_and_then_left(
    failed: None, sql: Database, database: str, jobqueue: Jobqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "_PAUSE", 0.01)
    with psycopg.connect(database) as other:
        other.execute("SELECT FROM jobs WHERE id = 2 FOR UPDATE")
        ran = jobqueue("jobs", "requeue", "jobs", "--all", "--yes")
    assert (ran.code, ran.out) == (1, "requeued 4 jobs of jobs\n")
    assert ran.err == "1 were locked by somebody else all the while and are as they were: try again\n"
    assert _in(sql, "failed") == [2]


def test_a_thousand_at_a_time(sql: Database, jobqueue: Jobqueue) -> None:
    sql("INSERT INTO jobs (kind, status, completed_at) SELECT 'x', 'failed', now() FROM generate_series(1, 2500)")
    sql("CREATE TABLE changes (number int)")
    sql(
        "CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO changes SELECT count(*) FROM changed; RETURN NULL; END'"
    )
    sql(
        "CREATE TRIGGER note AFTER UPDATE ON jobs REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_change()"
    )
    assert jobqueue("jobs", "requeue", "jobs", "--all", "--yes").out == "requeued 2,500 jobs of jobs\n"
    assert sql("SELECT number FROM changes") == [(1000,), (1000,), (500,)]
