"""`jobqueue stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.cli.terminal import in_terminal

from jobqueue.admin import inspector

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue


def _queue(jobqueue: Jobqueue, name: str) -> dict[str, Any]:
    ran = jobqueue("stats", "--json")
    assert ran.code == 0
    found: dict[str, Any] = next(each for each in ran.document["queues"] if each["queue"] == name)
    return found


def test_depth_by_state(sql: Database, jobqueue: Jobqueue, own_words: str) -> None:
    sql("INSERT INTO orders (run_after) SELECT now() - (20 - n) * interval '1 second' FROM generate_series(1, 10) n")
    sql("INSERT INTO orders (run_after) SELECT now() + interval '1 hour' FROM generate_series(1, 3)")
    sql("UPDATE orders SET status = 'BUSY' WHERE id IN (1, 2)")
    sql("UPDATE orders SET status = 'BROKEN' WHERE id = 3")
    sql("UPDATE orders SET status = 'DONE' WHERE id IN (4, 5, 6)")
    sql("UPDATE orders SET completed_at = now() - interval '3 minutes' WHERE id = 5")
    sql("UPDATE orders SET completed_at = now() - interval '2 hours' WHERE id = 6")
    found = _queue(jobqueue, own_words)
    assert 13 <= found.pop("oldest_due_seconds") < 60
    assert found == {
        "queue": "orders",
        "due": 4,
        "delayed": 3,
        "processing": 2,
        "failed": 1,
        "failed_last_hour": 1,
        "capped": [],
        "completed_last_hour": 2,
        "completed_last_5_minutes": 2,
        "completed_last_minute": 1,
        "failure_share_last_hour": pytest.approx(1 / 3),
        "paused_at": None,
    }


def test_an_empty_queue_knows_nothing_of_age_and_failures(jobqueue: Jobqueue) -> None:
    found = _queue(jobqueue, "publish_jobs")
    assert (found["due"], found["oldest_due_seconds"], found["failure_share_last_hour"]) == (0, None, None)


def test_a_delayed_job_whose_time_has_come_is_due_although_no_worker_has_seen_it(
    sql: Database, jobqueue: Jobqueue
) -> None:
    sql("INSERT INTO jobs (kind, run_after) VALUES ('x', clock_timestamp() + interval '50 milliseconds')")
    sql("SELECT pg_sleep(0.06)")
    assert sql("SELECT position FROM jobs") == [(None,)]
    found = _queue(jobqueue, "jobs")
    assert (found["due"], found["delayed"]) == (1, 0)
    assert 0 < found["oldest_due_seconds"] < 30


def test_the_oldest_is_looked_for_in_every_lane(sql: Database, jobqueue: Jobqueue) -> None:
    sql(
        "INSERT INTO jobs (kind, priority, run_after) SELECT 'x', n, now() - n % 4 * interval '1 hour' FROM generate_series(1, 9) n"
    )
    assert 3 * 3600 <= _queue(jobqueue, "jobs")["oldest_due_seconds"] < 3 * 3600 + 60


def test_counting_stops_and_says_so(sql: Database, jobqueue: Jobqueue, environment: dict[str, str]) -> None:
    sql("ALTER TABLE jobs DISABLE TRIGGER USER")
    sql("INSERT INTO jobs (kind, position) SELECT 'x', n FROM generate_series(1, 10050) n")
    found = _queue(jobqueue, "jobs")
    assert (found["due"], found["capped"]) == (10_000, ["due"])
    line = next(row for row in jobqueue("stats").rows if row[0] == "jobs")
    assert line[1] == "10000+"
    assert "10,000+" in in_terminal(["stats"], environment).text


def test_completed_jobs_are_not_counted_where_that_would_read_a_large_table(
    sql: Database, jobqueue: Jobqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql("ALTER TABLE jobs DISABLE TRIGGER USER")
    sql(
        "INSERT INTO jobs (kind, status, completed_at) SELECT 'x', 'completed', now() - n * interval '1 minute' FROM generate_series(1, 20000) n"
    )
    sql("ANALYZE jobs")
    monkeypatch.setattr(inspector, "_CHEAP", 100.0)
    found = _queue(jobqueue, "jobs")
    assert (found["completed_last_hour"], found["completed_last_minute"]) == (None, None)
    assert next(row for row in jobqueue("stats").rows if row[0] == "jobs")[6:] == [""] * 5
    sql("CREATE INDEX ON jobs (completed_at) WHERE status = 'completed'")
    found = _queue(jobqueue, "jobs")
    assert found["completed_last_hour"] in (59, 60)
    assert found["failure_share_last_hour"] == 0


def test_workers(sql: Database, jobqueue: Jobqueue, environment: dict[str, str]) -> None:
    sql(
        "INSERT INTO jobqueue.workers (name, version, queues, concurrency, in_flight, draining, beat_at) VALUES "
        "('one', '1', '{jobs}', 3, 2, false, now()), ('two', '1', '{jobs,publish_jobs}', 5, 0, true, now()), "
        "('three', '1', '{jobs}', 3, 3, false, now() - interval '5 minutes')"
    )
    workers = {each["name"]: each for each in jobqueue("stats", "--json").document["workers"]}
    assert {name: (each["alive"], each["draining"], each["in_flight"]) for name, each in workers.items()} == {
        "one": (True, False, 2),
        "two": (True, True, 0),
        "three": (False, False, 3),
    }
    assert workers["two"]["queues"] == ["jobs", "publish_jobs"]
    shown = in_terminal(["stats"], environment).text
    for words in (["one", "alive", "2/3"], ["two", "draining", "0/5"], ["three", "silent for 5m", "3/3"]):
        line = next(line for line in shown.splitlines() if line.startswith(words[0]))
        assert all(word in line for word in words)


def test_nobody_at_work_is_said(jobqueue: Jobqueue, environment: dict[str, str]) -> None:
    assert "jobqueue worker" in in_terminal(["stats"], environment).text


def test_kinds_that_nobody_serves_are_said(sql: Database, jobqueue: Jobqueue, environment: dict[str, str]) -> None:
    said = "no process has been found that serves the kind ''{}''; this one does not"
    sql(
        "INSERT INTO jobs (kind, created_at, run_after, error_message) SELECT kind, now() - age, now() + interval '50 seconds', "
        f"'{said}' FROM (VALUES ('report', interval '1 hour'), ('report', '2 minutes'), ('new', '5 seconds')) AS jobs (kind, age)"
    )
    sql("INSERT INTO jobs (kind, run_after, error_message) VALUES ('plain', now() + interval '50 seconds', 'away')")
    assert jobqueue("stats", "--json").document["unserved_kinds"] == [{"kind": "report", "jobs": 2}]
    shown = [line.split() for line in in_terminal(["stats"], environment).text.splitlines()]
    assert shown[shown.index(["KIND", "THAT", "NO", "WORKER", "SERVES", "JOBS"]) + 1] == ["report", "2"]


def test_a_queue_that_does_not_answer_leaves_the_others_to_be_seen(
    database: str, jobqueue: Jobqueue, sql: Database
) -> None:
    sql("INSERT INTO jobs (kind) VALUES ('x')")
    with psycopg.connect(database) as busy:
        busy.execute("LOCK TABLE publish_jobs IN ACCESS EXCLUSIVE MODE")
        ran = jobqueue("stats", "--json")
    assert ran.err == "the queue publish_jobs did not answer in time\n"
    depths = {each["queue"]: each["due"] for each in ran.document["queues"]}
    assert (depths["jobs"], depths["publish_jobs"]) == (1, None)


def test_a_job_that_is_due_since_ever_has_waited_for_no_time(sql: Database, jobqueue: Jobqueue) -> None:
    sql("INSERT INTO jobs (kind, run_after) VALUES ('x', '-infinity'), ('x', 'infinity')")
    found = _queue(jobqueue, "jobs")
    assert (found["due"], found["delayed"], found["oldest_due_seconds"]) == (1, 1, 0)
    sql("INSERT INTO jobs (kind, priority, run_after) VALUES ('x', 6, now() - interval '1 minute')")
    assert 60 <= _queue(jobqueue, "jobs")["oldest_due_seconds"] < 120
