"""`jobqueue jobs purge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue


def _fill(sql: Database) -> None:
    sql("TRUNCATE jobs RESTART IDENTITY")
    sql("INSERT INTO jobs (kind, created_at) SELECT 'x', now() - interval '200 days' FROM generate_series(1, 8)")
    for first, status in ((1, "completed"), (3, "cancelled"), (5, "failed")):
        for days in (0, 1):
            age = f"{(100, 10)[days]} days"
            sql(
                "UPDATE jobs SET status = %s, completed_at = now() - %s::interval WHERE id = %s",
                status,
                age,
                first + days,
            )
    sql("UPDATE jobs SET status = 'processing' WHERE id = 7")


@pytest.fixture
def finished(sql: Database) -> None:
    """Jobs 1 to 8: done, cancelled and failed, each 100 days and 10 days ago; one that runs; one that waits."""
    _fill(sql)


def _left(sql: Database) -> list[int]:
    return [row[0] for row in sql("SELECT id FROM jobs ORDER BY id")]


def test_purge(sql: Database, jobqueue: Jobqueue) -> None:
    for args, gone in {
        "--older 90d": {1, 3},
        "--older 90d --status completed": {1},
        "--older 90d --status failed": {5},
        "--older 1d -s failed,completed,cancelled": {1, 2, 3, 4, 5, 6},
        "--older 300d": set(),
        "1 4 6": {1, 4, 6},
    }.items():
        _fill(sql)
        dry = jobqueue("jobs", "purge", "jobs", *args.split(), "--dry-run")
        assert dry.out.splitlines()[0] == f"would delete {len(gone)} job{'' if len(gone) == 1 else 's'} of jobs", args
        assert {int(row[0]) for row in dry.rows[1:]} <= gone, args
        assert _left(sql) == list(range(1, 9))
        ran = jobqueue("jobs", "purge", "jobs", *args.split(), "--yes")
        assert ran.code == 0
        assert set(range(1, 9)) - set(_left(sql)) == gone, args


def test_open_jobs_are_never_deleted(finished: None, sql: Database, jobqueue: Jobqueue) -> None:
    ran = jobqueue("jobs", "purge", "jobs", 7, 8, "-y")
    assert (ran.code, ran.out) == (1, "deleted 0 jobs of jobs\n")
    assert ran.err.splitlines() == [
        "job 7 is processing: purge takes completed, cancelled, failed jobs",
        "job 8 is pending: purge takes completed, cancelled, failed jobs",
    ]
    assert jobqueue("jobs", "purge", "jobs", "--older", "1d", "--status", "pending", "-y").code == 2
    assert len(_left(sql)) == 8


def test_everything_is_not_an_answer(finished: None, sql: Database, jobqueue: Jobqueue) -> None:
    for args in ([], ["--status", "completed"], ["--error", "x"]):
        ran = jobqueue("jobs", "purge", "jobs", *args, "--yes")
        assert ran.code == 2
        assert "--older" in ran.err
    assert len(_left(sql)) == 8


def test_a_job_with_no_time_of_its_end_is_as_old_as_itself(finished: None, sql: Database, jobqueue: Jobqueue) -> None:
    sql("ALTER TABLE jobs DISABLE TRIGGER USER")
    sql("UPDATE jobs SET completed_at = NULL WHERE id = 2")
    assert jobqueue("jobs", "purge", "jobs", "--older", "150d", "--yes").out == "deleted 1 job of jobs\n"
    assert 2 not in _left(sql)


@pytest.mark.extended
def test_a_hundred_thousand_rows_go_in_small_steps_that_read_the_table_once(sql: Database, jobqueue: Jobqueue) -> None:
    sql("ALTER TABLE jobs DISABLE TRIGGER USER")
    sql(
        "INSERT INTO jobs (kind, status, completed_at) SELECT 'x', CASE WHEN n % 100 = 0 THEN 'pending' ELSE 'completed' END, "
        "now() - interval '100 days' FROM generate_series(1, 100000) n"
    )
    sql("CREATE TABLE deletions (number int, xid xid8)")
    sql(
        "CREATE FUNCTION note_deletion() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO deletions SELECT count(*), pg_current_xact_id() FROM gone; RETURN NULL; END'"
    )
    sql(
        "CREATE TRIGGER note AFTER DELETE ON jobs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note_deletion()"
    )
    before = sql.value("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'jobs'")
    dry = jobqueue("jobs", "purge", "jobs", "--older", "90d", "--dry-run")
    assert dry.out.splitlines()[0] == "would delete more than 10,000 jobs of jobs"
    ran = jobqueue("jobs", "purge", "jobs", "--older", "90d", "--yes")
    assert (ran.code, ran.out) == (0, "deleted 99,000 jobs of jobs\n")
    assert sql("SELECT count(*), bool_and(status = 'pending') FROM jobs") == [(1000, True)]
    assert sql("SELECT sum(number), max(number), count(*) = count(DISTINCT xid) FROM deletions") == [
        (99_000, 1000, True)
    ]
    sql("SELECT pg_stat_force_next_flush()")
    assert sql.value("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'jobs'") == before + 1  # the count above
