"""`jobqueue publish`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from tests.cli.terminal import in_terminal
from tests.support.isolation import LEVELS, ahead, default_isolation
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue


def test_files_and_jobs_are_inserted_together(
    sql: Database, jobqueue: Jobqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_RETRIES", "7")
    group = uuid4()
    ran = jobqueue("publish", "lots/17/front.jpg", "back.jpg", "back.jpg", "--group", group, "--priority", 8, "--json")
    assert (ran.code, ran.err) == (0, "")
    files = sql(
        "SELECT f.source_key, f.original_name, f.asset_group_id, f.publish_status, f.id::text, j.id::text, j.status, j.priority, j.max_retries "
        "FROM auction_files f JOIN publish_jobs j ON j.file_id = f.id ORDER BY f.source_key"
    )
    assert [row[:4] + row[6:] for row in files] == [
        ("back.jpg", "back.jpg", group, "pending", "pending", 8, 7),
        ("lots/17/front.jpg", "front.jpg", group, "pending", "pending", 8, 7),
    ]
    assert ran.document["schema"] == "jobqueue.publications/1"
    front, back = ran.document["files"]
    assert front == {
        "source_key": "lots/17/front.jpg",
        "file_id": files[1][4],
        "job_id": files[1][5],
        "reused": False,
        "coalesced": False,
        "status": "pending",
        "display_url": None,
        "thumb_url": None,
        "error_message": None,
    }
    assert (back["file_id"], back["job_id"]) == files[0][4:6]


def test_a_file_that_is_there_is_used_again(sql: Database, jobqueue: Jobqueue) -> None:
    first = jobqueue("publish", "a.jpg", "--json").document["files"][0]
    twin = jobqueue("publish", "a.jpg", "--json").document["files"][0]
    assert (twin["file_id"], twin["job_id"]) == (first["file_id"], first["job_id"])
    assert (twin["reused"], twin["coalesced"]) == (True, True)
    sql("UPDATE publish_jobs SET status = 'completed'")
    again = jobqueue("publish", "a.jpg", "--json").document["files"][0]
    assert (again["file_id"], again["reused"], again["coalesced"]) == (first["file_id"], True, False)
    assert again["job_id"] != first["job_id"]
    sql("UPDATE auction_files SET deleted_at = now()")
    other = jobqueue("publish", "a.jpg", "--json").document["files"][0]
    assert (other["file_id"] == first["file_id"], other["reused"]) == (False, False)
    elsewhere = jobqueue("publish", "a.jpg", "--group", uuid4(), "--json").document["files"][0]
    assert (elsewhere["file_id"] == other["file_id"], elsewhere["reused"]) == (False, False)


@pytest.mark.parametrize("level", LEVELS)
def test_a_file_that_another_attaches_at_the_same_time_is_used(
    sql: Database, jobqueue: Jobqueue, database: str, level: str
) -> None:
    lock = "SELECT pg_advisory_xact_lock(hashtextextended('jobqueue publish', 0))"
    attach = "INSERT INTO auction_files (source_key, asset_group_id) VALUES (%(key)s, %(group)s)"
    with default_isolation(database, level), ahead(database, lock, attach, key="a.jpg", group=uuid4()):
        ran = jobqueue("publish", "a.jpg", "--json")
    assert ran.document["files"][0]["reused"]
    assert sql("SELECT count(*) FROM auction_files") == [(1,)]


def test_every_bad_key_is_named_and_nothing_is_inserted(sql: Database, jobqueue: Jobqueue) -> None:
    ran = jobqueue("publish", "good.jpg", "../etc/passwd", "http://x/y.jpg", "a\nb", "x" * 1025)
    assert (ran.code, ran.out) == (2, "")
    lines = ran.err.splitlines()
    assert len(lines) == 4
    for line, said in zip(
        lines, ("'..' in its path", "a scheme", "a control character", "1025 bytes long"), strict=True
    ):
        assert said in line
    assert sql.value("SELECT count(*) FROM auction_files") == 0


def test_what_the_host_asks_for_is_said(sql: Database, jobqueue: Jobqueue) -> None:
    sql("ALTER TABLE auction_files ALTER COLUMN asset_group_id SET NOT NULL")
    ran = jobqueue("publish", "a.jpg")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "this database does not take a file without asset_group_id: give it with --group\n"
    sql("CREATE TABLE groups (id uuid PRIMARY KEY)")
    sql("ALTER TABLE auction_files ADD FOREIGN KEY (asset_group_id) REFERENCES groups")
    ran = jobqueue("publish", "a.jpg", "--group", uuid4())
    assert ran.code == 1
    assert "foreign key" in ran.err
    assert sql.value("SELECT count(*) FROM publish_jobs") == 0


def _work(database: str, number: int, change: str) -> threading.Thread:
    """Stand in for a worker: once so many jobs are there, change them."""

    def run() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            eventually(lambda: connection.execute("SELECT count(*) FROM publish_jobs").fetchone() == (number,))
            connection.execute(change.encode())

    thread = threading.Thread(target=run)
    thread.start()
    return thread


_PUBLISHED = """
    UPDATE auction_files SET publish_status = 'published',
        thumb_url = 'https://cdn/' || source_key || '/t.webp', display_url = 'https://cdn/' || source_key || '/d.webp';
    UPDATE publish_jobs SET status = 'completed'"""


def test_wait_prints_the_urls(database: str, jobqueue: Jobqueue) -> None:
    worker = _work(database, 2, _PUBLISHED)
    ran = jobqueue("publish", "b.jpg", "a.jpg", "--wait", "--timeout", "30")
    worker.join()
    assert ran.code == 0
    assert [[row[0], *row[3:]] for row in ran.rows] == [
        [f"{name}.jpg", "completed", f"https://cdn/{name}.jpg/d.webp", f"https://cdn/{name}.jpg/t.webp", ""]
        for name in ("b", "a")
    ]
    assert ran.err == "no worker is alive for publish_jobs: start one with `jobqueue worker`\n"


def test_wait_is_1_when_one_failed_and_says_why(database: str, jobqueue: Jobqueue, sql: Database) -> None:
    sql("INSERT INTO jobqueue.workers (name, version, queues, concurrency) VALUES ('w', '1', '{publish_jobs}', 3)")
    failure = (
        "UPDATE publish_jobs SET status = 'failed', error_message = 'the origin has no such file' "
        "WHERE file_id = (SELECT id FROM auction_files WHERE source_key = 'b.jpg'); "
        "UPDATE publish_jobs SET status = 'completed' WHERE status = 'pending'"
    )
    worker = _work(database, 2, failure)
    ran = jobqueue("publish", "a.jpg", "b.jpg", "--wait", "--timeout", "30", "--json")
    worker.join()
    assert (ran.code, ran.err) == (1, "")
    assert [(each["status"], each["error_message"]) for each in ran.document["files"]] == [
        ("completed", None),
        ("failed", "the origin has no such file"),
    ]


def test_wait_ends_at_the_timeout(jobqueue: Jobqueue) -> None:
    ran = jobqueue("publish", "a.jpg", "--wait", "--timeout", "0")
    assert ran.code == 1
    assert ran.err.endswith("1 of 1 not published within 0s\n")
    assert ran.rows[0][3] == "pending"


def test_wait_follows_the_job_that_took_over(database: str, jobqueue: Jobqueue, sql: Database) -> None:
    """The job is cancelled because another for the same file is pending: that one is waited for."""
    taken_over = (
        "UPDATE publish_jobs SET status = 'processing'; INSERT INTO publish_jobs (file_id) SELECT id FROM auction_files; "
        "UPDATE publish_jobs SET status = 'pending' WHERE status = 'processing'"
    )
    first = _work(database, 1, taken_over)
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(jobqueue("publish", "a.jpg", "--wait", "--timeout", "30", "--json"))
    )
    waiting.start()
    first.join()
    assert sorted(sql("SELECT status FROM publish_jobs")) == [("cancelled",), ("pending",)]
    successor = sql.value("SELECT id::text FROM publish_jobs WHERE status = 'pending'")
    sql("UPDATE publish_jobs SET status = 'completed' WHERE status = 'pending'")
    waiting.join()
    (ran,) = answers
    (file,) = ran.document["files"]
    assert (ran.code, file["status"], file["job_id"], file["coalesced"]) == (0, "completed", successor, True)


def test_on_a_terminal(database: str, jobqueue: Jobqueue, environment: dict[str, str]) -> None:
    worker = _work(database, 1, _PUBLISHED)
    screen = in_terminal(["publish", "lots/1.jpg", "--wait", "--timeout", "30"], environment, columns=30)
    worker.join()
    assert screen.code == 0
    assert "https://cdn/lots/1.jpg/d.webp" in screen.text
