"""A worker on `jobs`, of which few may run at once over all processes, and on `paced`, whose jobs start at a rate.

A job of `jobs` notes when it began and when it ended, by the server's clock, the end in the transaction that completes it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from jobqueue.kernel import Context, Job, Queue, Rate, Worker, WorkerOptions

if TYPE_CHECKING:
    from typing import Any

    import psycopg


def handle(job: Job, context: Context) -> None:
    run = {"job": str(job.id), "attempt": job.attempt}

    def begin(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute("INSERT INTO runs VALUES (%(job)s, %(attempt)s, clock_timestamp())", run)

    def end(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(
            "UPDATE runs SET ended_at = clock_timestamp() WHERE job_id = %(job)s AND attempt = %(attempt)s", run
        )

    context.write(begin)
    time.sleep(0.03)
    context.commit(end)


def pace(_job: Job, _context: Context) -> None:
    """Its start is in jobqueue.attempts."""


def main() -> None:
    most, rate = int(os.environ["MOST"]), Rate.parse(os.environ["RATE"])
    options = WorkerOptions(os.environ["DATABASE_URL"], concurrency=8, lease_seconds=3.0, poll_seconds=0.5)
    queues = [
        Queue("jobs", handle, global_concurrency=most, keep_attempts="all"),
        Queue("paced", pace, rate=rate, keep_attempts="all"),
    ]
    Worker(options, queues).start()
    while True:
        time.sleep(60.0)


if __name__ == "__main__":
    main()
