"""`jobqueue artifact`: what is requested, and what is told of it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from uuid import UUID

    from tests.cli.helpers import Database, Jobqueue

READY = """
    UPDATE download_artifacts
    SET status = 'READY', cdn_url = 'https://cdn.example.test/a.zip', filename = 'Sommerfest.zip', size_bytes = 1234,
        file_count = 2, manifest = '{"files": [], "missing": [{"name": "gone.jpg"}]}'
"""


@pytest.fixture
def project(sql: Database) -> UUID:
    found: UUID = sql.value("INSERT INTO projects (name) VALUES ('Sommerfest') RETURNING id")
    return found


def meanwhile(sql: Database, statement: str) -> threading.Thread:
    """Run `statement` as soon as there is an artifact."""

    def run() -> None:
        eventually(lambda: sql("SELECT id FROM download_artifacts"))
        sql(statement)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_row_is_inserted_and_its_id_printed(jobqueue: Jobqueue, sql: Database, project: UUID) -> None:
    ran = jobqueue("artifact", project, "--type", "photos_only", "--priority", 7)
    assert ran.code == 0
    (row,) = sql("SELECT id::text, project_id, type, status, priority, max_retries FROM download_artifacts")
    assert row[1:] == (project, "PHOTOS_ONLY", "PENDING", 7, 5)
    assert ran.rows == [[row[0], "pending", "", "", "", "0", ""]]


def test_as_json(jobqueue: Jobqueue, project: UUID) -> None:
    document = jobqueue("artifact", project, "--json").document
    assert document["schema"] == "jobqueue.artifact/1"
    assert document["state"] == "pending"
    assert document["cdn_url"] is None


@pytest.mark.parametrize("unknown", ["00000000-0000-0000-0000-000000000000", "not-an-id", "'; DROP TABLE projects; --"])
def test_an_unknown_project_is_a_no(jobqueue: Jobqueue, sql: Database, unknown: object) -> None:
    ran = jobqueue("artifact", unknown)
    assert ran.code == 1
    assert "there is no project" in ran.err
    assert sql("SELECT id FROM download_artifacts") == []


def test_an_unknown_type_is_wrong_usage(jobqueue: Jobqueue, project: UUID) -> None:
    ran = jobqueue("artifact", project, "--type", "EVERYTHING")
    assert ran.code == 2
    assert "EVERYTHING" in ran.err


def test_waiting_prints_the_url(jobqueue: Jobqueue, sql: Database, project: UUID) -> None:
    other = meanwhile(sql, READY)
    ran = jobqueue("artifact", project, "--wait", "--json")
    other.join()
    assert ran.code == 0
    assert ran.document["cdn_url"] == "https://cdn.example.test/a.zip"
    assert (ran.document["size_bytes"], ran.document["file_count"], ran.document["missing"]) == (1234, 2, 1)
    assert "no worker is alive for download_artifacts" in ran.err


def test_waiting_for_a_failure_says_why(jobqueue: Jobqueue, sql: Database, project: UUID) -> None:
    other = meanwhile(sql, "UPDATE download_artifacts SET status = 'FAILED', error_message = 'no media'")
    ran = jobqueue("artifact", project, "--wait")
    other.join()
    assert ran.code == 1
    assert ran.rows[0][1] == "failed"
    assert ran.rows[0][-1] == "no media"


def test_waiting_ends(jobqueue: Jobqueue, project: UUID) -> None:
    ran = jobqueue("artifact", project, "--wait", "--timeout", "0")
    assert ran.code == 1
    assert "not ready within 0s" in ran.err


def test_a_deleted_project_ends_the_wait(jobqueue: Jobqueue, sql: Database, project: UUID) -> None:
    other = meanwhile(sql, "DELETE FROM projects")
    ran = jobqueue("artifact", project, "--wait")
    other.join()
    assert ran.code == 1
    assert "was deleted meanwhile" in ran.err


@pytest.mark.usefixtures("jobqueue")
def test_a_person_sees_a_bar_and_the_result(environment: dict[str, str], sql: Database, project: UUID) -> None:
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "jobqueue", "artifact", str(project), "--wait"],
        stdout=end, stderr=end, stdin=end, env={**environment, "TERM": "xterm", "COLUMNS": "120"},
    ) as child:  # fmt: skip
        os.close(end)
        shown = b""

        def sees(text: bytes) -> None:
            nonlocal shown
            while text not in shown:
                try:
                    data = os.read(terminal, 4096)
                except OSError:
                    data = b""
                assert data, shown
                shown += data

        sees(b"waiting")
        sql(
            """UPDATE download_artifacts SET phase = 'sending', files_done = 3, files_total = 9, bytes_done = 500000,
               bytes_total = 1000000"""
        )
        sees(b"sending 3/9 files")
        sees(b"0.5/1.0 MB")
        sql(READY)
        sees(b"https://cdn.example.test/a.zip")
        assert b"Sommerfest.zip: 2 files, 1 left out, 1.2 kB" in shown
        assert child.wait(20) == 0
    os.close(terminal)
