"""`jobqueue jobs why`: one sentence for each reason that keeps a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue

WORKER = (
    "INSERT INTO jobqueue.workers (name, version, queues, concurrency, in_flight, draining) VALUES "
    "('w1', '1', '{{jobs,publish_jobs}}', 3, {in_flight}, {draining})"
)
LIVE = WORKER.format(in_flight=0, draining="false")
JOB = "INSERT INTO jobs (id, kind) VALUES (1, 'x')"


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        (["INSERT INTO jobs (id, kind, run_after) VALUES (1, 'x', '2999-01-01T00:00:00Z')"], "it is not due until 2999-01-01T00:00:00.000Z"),
        (
            ["INSERT INTO jobs (id, kind, run_after, retry_count, error_message) VALUES (1, 'x', '2999-01-01T00:00:00Z', 2, 'it was away')"],
            "it is not due until 2999-01-01T00:00:00.000Z (attempt 3 of 5), because: it was away",
        ),
        (["INSERT INTO jobs (id, kind, run_after) VALUES (1, 'x', 'infinity')"], "it is never due: its run_after is infinity"),
        ([JOB], "no worker is alive that serves jobs: start one with `jobqueue worker`"),
        ([JOB, WORKER.format(in_flight=0, draining="true")], "every worker that serves jobs is stopping: start another with `jobqueue worker`"),
        (
            [JOB, LIVE, "INSERT INTO jobqueue.pauses (queue, paused_at) VALUES ('jobs', '2026-01-01T00:00:00Z')"],
            "the queue is paused since 2026-01-01T00:00:00.000Z: `jobqueue queues resume jobs`",
        ),
        ([JOB, LIVE], "it is the next: a worker takes it at once"),
        (
            [JOB, WORKER.format(in_flight=3, draining="false")],
            "it is the next, and every worker has as many jobs in flight as it may",
        ),
        (
            ["INSERT INTO jobs (id, kind) SELECT n, 'x' FROM generate_series(11, 13) AS n", JOB,
             "INSERT INTO jobs (id, kind, priority) SELECT n, 'x', 9 FROM generate_series(21, 22) AS n", LIVE],
            "it waits behind 2 of higher priority and 3 of its own that came first",
        ),
        (
            ["INSERT INTO jobs (id, kind, run_after) VALUES (1, 'x', '2999-01-01')", "UPDATE jobs SET crash_count = 2, run_after = now(), position = NULL", LIVE],
            "it has lost its worker 2 times, and runs only while a worker has nothing else at work",
        ),
        (
            ["INSERT INTO jobs (id, kind) VALUES (1, 'x')",
             "UPDATE jobs SET status = 'processing', started_at = '2026-01-01T00:00:00Z', locked_by = 'w1', lease_token = gen_random_uuid(), lease_expires_at = '2999-01-01T00:00:00Z'"],
            "it is running: w1 has it since 2026-01-01T00:00:00.000Z, leased until 2999-01-01T00:00:00.000Z",
        ),
        (
            [JOB, "UPDATE jobs SET status = 'processing', locked_by = 'w1', lease_token = gen_random_uuid(), lease_expires_at = '2026-01-01T00:00:00Z'"],
            "the lease of w1 ran out at 2026-01-01T00:00:00.000Z: the next worker of the queue takes it back",
        ),
        (
            [JOB, "UPDATE jobs SET status = 'processing'"],
            "its status is 'processing', and nobody holds a lease on it: somebody else than a worker set that",
        ),
        (["INSERT INTO jobs (id, kind, status, completed_at) VALUES (1, 'x', 'completed', '2026-01-01T00:00:00Z')"], "it completed at 2026-01-01T00:00:00.000Z"),
        (
            ["INSERT INTO jobs (id, kind, status, completed_at, error_message) VALUES (1, 'x', 'cancelled', '2026-01-01T00:00:00Z', 'cancelled by an operator')"],
            "it was cancelled at 2026-01-01T00:00:00.000Z, because: cancelled by an operator",
        ),
        (
            ["INSERT INTO jobs (id, kind, status, completed_at, retry_count, error_message) VALUES (1, 'x', 'failed', '2026-01-01T00:00:00Z', 5, 'no such \x1b[31mfile')"],
            "it failed for good at 2026-01-01T00:00:00.000Z, after 5 of 5 attempts, because: no such \\x1b[31mfile; `jobqueue jobs requeue jobs 1` tries it again",
        ),
        (
            [
                "INSERT INTO jobs (id, kind, status, completed_at, retry_count, error_message) VALUES (1, 'x', 'failed', '2026-01-01T00:00:00Z', 5, 'nothing to pay')",
                "INSERT INTO jobqueue.attempts (queue, job_id, attempt, worker, started_at, ended_at, outcome) VALUES ('jobs', '1', 2, 'w', now(), now(), 'failed')",
            ],
            "it failed for good at 2026-01-01T00:00:00.000Z, in attempt 2, after which no other could do better, because: nothing to pay; `jobqueue jobs requeue jobs 1` tries it again",
        ),
        (["INSERT INTO jobs (id, kind, status) VALUES (1, 'x', 'on hold')"], "its status 'on hold' is no state of the queue jobs: no worker looks at it"),
    ],
)  # fmt: skip
def test_one_sentence(statements: list[str], sentence: str, jobqueue: Jobqueue, sql: Database) -> None:
    for statement in statements:
        sql(statement)
    ran = jobqueue("jobs", "why", "jobs", "1")

    assert (ran.code, ran.out) == (0, f"{sentence}\n")


def test_twins_are_one_run(jobqueue: Jobqueue, sql: Database) -> None:
    sql("ALTER TABLE jobs DISABLE TRIGGER USER")
    sql("INSERT INTO jobs (id, kind, unique_key, position) VALUES (1, 'x', 'k', 1), (2, 'x', 'k', 2)")
    sql("ALTER TABLE jobs ENABLE TRIGGER USER")
    sql(LIVE)

    assert jobqueue("jobs", "why", "jobs", "2").out == "job 1 has the same unique_key: one run will do for both\n"
    assert jobqueue("jobs", "why", "jobs", "1").out == "it is the next: a worker takes it at once\n"


def test_a_job_that_is_not_there(jobqueue: Jobqueue) -> None:
    ran = jobqueue("jobs", "why", "jobs", "1")

    assert (ran.code, ran.err) == (1, "there is no job 1 in jobs\n")


def test_the_document(jobqueue: Jobqueue, sql: Database) -> None:
    sql(JOB)

    assert jobqueue("jobs", "why", "jobs", "1", "--json").document == {
        "schema": "jobqueue.why/1",
        "queue": "jobs",
        "id": "1",
        "why": "no worker is alive that serves jobs: start one with `jobqueue worker`",
    }
