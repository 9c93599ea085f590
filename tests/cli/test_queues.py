"""`jobqueue queues`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from tests.cli.terminal import in_terminal

from jobqueue.cli import queues

if TYPE_CHECKING:
    import pytest
    from tests.cli.helpers import Database, Jobqueue


def test_a_queue_is_paused_and_resumed(sql: Database, jobqueue: Jobqueue) -> None:
    assert jobqueue("queues", "pause", "jobs").out == "jobs is paused\n"
    assert jobqueue("queues", "pause", "jobs").out == "jobs was paused already\n"
    listed = {row[0]: row for row in jobqueue("queues", "list").rows}
    assert listed["jobs"][:3] == ["jobs", "public.jobs", "paused"]
    assert listed["publish_jobs"] == ["publish_jobs", "public.publish_jobs", "active", "", "", ""]
    stats = {row[0]: row for row in jobqueue("stats").rows}
    assert stats["jobs"][-1] == listed["jobs"][3]
    assert stats["publish_jobs"][-1] == ""
    resumed = jobqueue("queues", "resume", "jobs", "--json").document
    assert resumed == {"schema": "jobqueue.queue_pause/1", "queue": "jobs", "paused": False, "changed": True}
    assert jobqueue("queues", "resume", "jobs").out == "jobs was not paused\n"
    assert sql("SELECT * FROM jobqueue.pauses") == []


def test_a_queue_that_does_not_exist_is_no_queue(jobqueue: Jobqueue) -> None:
    for command in ("pause", "resume"):
        ran = jobqueue("queues", command, "non")
        assert ran.code == 1
        assert "there is no queue 'non'; the queues of this database are: " in ran.err


def test_a_claim_that_does_not_end_is_told(
    database: str, jobqueue: Jobqueue, sql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "_PATIENCE", 0.1)
    with psycopg.connect(database) as claiming:
        claiming.execute("SELECT FROM jobqueue.pauses FOR KEY SHARE")
        ran = jobqueue("queues", "pause", "jobs")
    assert ran.code == 1
    assert "some jobs of jobs may still begin" in ran.err
    assert sql.value("SELECT count(*) FROM jobqueue.pauses") == 1


def test_limits_are_listed_as_living_processes_state_them(sql: Database, jobqueue: Jobqueue) -> None:
    sql("SELECT jobqueue.state_limits('jobs', 'a', 5, NULL, NULL)")
    sql("SELECT jobqueue.state_limits('jobs', 'b', 7, 100000000, 1)")
    sql("INSERT INTO jobqueue.limits VALUES ('jobs', 'gone', now() - interval '1 hour', 1, NULL, NULL)")
    found = {each["queue"]: each for each in jobqueue("queues", "list", "--json").document["queues"]}
    assert (found["jobs"]["global_concurrency"], found["jobs"]["rate"], found["jobs"]["burst"]) == (5, "10/s", 1)
    assert (found["publish_jobs"]["global_concurrency"], found["publish_jobs"]["rate"]) == (None, None)


def test_a_terminal_shows_a_table(jobqueue: Jobqueue, environment: dict[str, str]) -> None:
    jobqueue("queues", "pause", "jobs")
    screen = in_terminal(["queues", "list"], environment).text
    assert "paused for" in screen
    assert "active" in screen
    assert "jobs paused" in in_terminal(["stats"], environment).text
