"""A job that kills its worker every time, beside jobs that do not; the test restarts the worker as a manager would."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.support.host import Host
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Launch

pytestmark = [pytest.mark.slow, pytest.mark.faults]

MAX_RETRIES = 3

WORKER = """
import os, signal, sys, threading
from jobqueue.kernel import Backoff, Queue, Worker, WorkerOptions
from jobqueue.observe.logging import configure_logging
from jobqueue.observe.redact import Redactor

def handle(job, context):
    match job.columns["kind"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "long":
            for _ in range(15):
                context.checkpoint()
                threading.Event().wait(0.1)

configure_logging("info", "json", Redactor())
options = WorkerOptions(os.environ["DATABASE_URL"], concurrency=4, lease_seconds=2, poll_seconds=0.2)
worker = Worker(options, [Queue("jobs", handle, columns=("kind",), backoff=Backoff(first=0.01))])
worker.start()
threading.Event().wait()
"""


@pytest.fixture
def host(database: str) -> Iterator[Host]:
    with Host(database) as host:
        yield host


@pytest.mark.extended
def test_a_job_that_kills_its_worker_ends_failed_and_the_others_complete(host: Host, launch: Launch) -> None:
    def job(kind: str) -> int:
        query = "INSERT INTO jobs (kind, max_retries) VALUES (%(k)s, %(m)s) RETURNING id"
        return int(host.rows(query, k=kind, m=MAX_RETRIES)[0]["id"])

    def all_ended() -> bool:
        return not host.rows("SELECT FROM jobs WHERE status IN ('pending', 'processing')")

    killer, long = job("kill"), [job("long"), job("long")]
    short = [job("short") for _ in range(20)]
    deaths = 0
    worker = launch({"DATABASE_URL": host.dsn}, command=("-c", WORKER))

    def work_until_all_have_ended() -> bool:
        nonlocal worker, deaths
        if not worker.running:
            assert worker.wait() == 128 + signal.SIGKILL
            deaths += 1
            worker = launch({"DATABASE_URL": host.dsn}, command=("-c", WORKER))
        return all_ended()

    eventually(work_until_all_have_ended, 60, interval=0.05)

    rows = {row["id"]: row for row in host.rows("SELECT * FROM jobs")}
    assert deaths == MAX_RETRIES
    assert (rows[killer]["status"], rows[killer]["retry_count"]) == ("failed", MAX_RETRIES)
    assert "died or was cut off while it ran this job (attempt 3 of 3)" in rows[killer]["error_message"]
    assert "the job itself may kill its worker" in rows[killer]["error_message"]
    assert rows[killer]["completed_at"] is not None
    assert {rows[id_]["status"] for id_ in (*long, *short)} == {"completed"}
    assert all(rows[id_]["retry_count"] < MAX_RETRIES for id_ in (*long, *short))
