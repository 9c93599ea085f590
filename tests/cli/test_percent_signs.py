"""A queue whose table, columns and words hold percent signs, which the driver takes for parameters where they are not escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobqueue.kernel import Queue, Worker, WorkerOptions
from jobqueue.kinds import Kinds
from jobqueue.observe.metrics import Metrics
from jobqueue.retention.finished_jobs import FinishedJobs

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue

QUEUE = "tax %s"
PENDING, PROCESSING, COMPLETED, FAILED, CANCELLED = "0%", "%(ids)s", "100%", "50%%", "%s"


@pytest.fixture(autouse=True)
def taxes(sql: Database) -> None:
    """Jobs 1 to 6 of QUEUE: two done 100 and 10 days ago, one failed, one called off, one that runs, one that waits."""
    sql('CREATE TABLE "tax %s" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "rate %" int NOT NULL DEFAULT 7)')
    words = PENDING, PROCESSING, COMPLETED, FAILED, CANCELLED
    assert sql.value("SELECT jobqueue.adopt('\"tax %%s\"', %s, %s, %s, %s, %s)", *words) == QUEUE
    sql('INSERT INTO "tax %s" SELECT FROM generate_series(1, 6)')
    for id_, word in enumerate((COMPLETED, COMPLETED, FAILED, CANCELLED, PROCESSING), 1):
        sql('UPDATE "tax %%s" SET status = %s WHERE id = %s', word, id_)
    sql("UPDATE \"tax %s\" SET completed_at = now() - interval '100 days' WHERE id = 1")
    sql("UPDATE \"tax %s\" SET completed_at = now() - interval '10 days' WHERE id = 2")


def _words(sql: Database) -> dict[int, str]:
    return dict(sql('SELECT id, status FROM "tax %s" ORDER BY id'))


def test_stats(jobqueue: Jobqueue) -> None:
    ran = jobqueue("stats", "--json")
    assert ran.code == 0
    found = next(each for each in ran.document["queues"] if each["queue"] == QUEUE)
    assert (found["due"], found["processing"], found["failed"]) == (1, 1, 1)
    assert found["completed_last_hour"] == 0


def test_list_and_show(jobqueue: Jobqueue) -> None:
    listed = jobqueue("jobs", "list", QUEUE, "--json")
    assert listed.code == 0
    assert {job["id"] for job in listed.document["jobs"]} == {"1", "2", "3", "4", "5", "6"}
    for id_, word in ((1, COMPLETED), (3, FAILED), (4, CANCELLED), (5, PROCESSING), (6, PENDING)):
        found = jobqueue("jobs", "list", QUEUE, "--status", word, "--json").document["jobs"]
        assert str(id_) in {job["id"] for job in found}
        shown = jobqueue("jobs", "show", QUEUE, id_, "--json")
        assert (shown.document["columns"]["status"], shown.document["columns"]["rate %"]) == (word, 7)


def test_requeue_cancel_and_purge(sql: Database, jobqueue: Jobqueue) -> None:
    assert jobqueue("jobs", "requeue", QUEUE, "--status", FAILED, "-y").out == f"requeued 1 job of {QUEUE}\n"
    assert jobqueue("jobs", "requeue", QUEUE, 2).out == f"requeued 1 job of {QUEUE}\n"
    assert jobqueue("jobs", "cancel", QUEUE, "--status", PROCESSING, "-y").out == f"cancelled 1 job of {QUEUE}\n"
    assert jobqueue("jobs", "purge", QUEUE, "--older", "90d", "-y").out == f"deleted 1 job of {QUEUE}\n"
    assert _words(sql) == {2: PENDING, 3: PENDING, 4: CANCELLED, 5: CANCELLED, 6: PENDING}


def test_retention_and_work(sql: Database, database: str) -> None:
    kinds = Kinds(Metrics())
    kinds.register("job-retention", FinishedJobs(database, 90).run)
    sql("INSERT INTO jobs (kind, payload) VALUES ('job-retention', '{}')")
    seen: list[object] = []
    taxes = Queue(QUEUE, lambda job, _: seen.append(job.columns["rate %"]), columns=("rate %",))
    Worker(WorkerOptions(database, poll_seconds=0.5, lease_seconds=5), [kinds.queue(), taxes]).run_once(20)
    assert sql("SELECT status, error_message FROM jobs") == [("completed", None)]
    # The one in progress without a lease was given one: it runs when that has ended.
    assert _words(sql) == {2: COMPLETED, 3: FAILED, 4: CANCELLED, 5: PROCESSING, 6: COMPLETED}
    assert seen == [7]
