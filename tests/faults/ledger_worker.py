"""A worker on `jobs` whose handlers leave traces that a test can count: the program of the tests that need one.

Payload: `how` is `commit` (the effect and the outcome in one transaction), `write` (the effect in a transaction, then the outcome
by the worker) or `return` (no effect); `seconds` is how long it takes before that, `held` how long the transaction takes. An effect is a row of the table `effects`, each
run a line of the log.

Its loops, and its handlers' transactions, give up on a server that does not answer after ANSWER_SECONDS.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any, cast

from jobqueue.kernel import Backoff, Context, Job, Queue, Worker, WorkerOptions
from jobqueue.observe.logging import configure_logging, get_logger
from jobqueue.observe.redact import Redactor

if TYPE_CHECKING:
    import psycopg

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.job import LeasedJob

log = get_logger(__name__)


def handle(job: Job, context: Context) -> None:
    payload: dict[str, Any] = job.columns["payload"]
    log.info("run_began", job_id=job.id, attempt=job.attempt)
    until = time.monotonic() + payload.get("seconds", 0.0)
    while time.monotonic() < until:
        context.checkpoint()
        time.sleep(0.05)

    def effect(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute("INSERT INTO effects (job_id, token) VALUES (%s, %s)", [job.id, cast("LeasedJob", job).token])
        if held := payload.get("held"):
            cursor.execute("SELECT pg_sleep(%s)", [held])

    match payload["how"]:
        case "commit":
            context.commit(effect)
        case "write":
            context.write(effect)
    log.info("run_ended", job_id=job.id, attempt=job.attempt)


class Impatient(Worker):
    """Gives up on silence sooner."""

    def _link(self, name: str, **given: Any) -> Link:
        answer = float(os.environ["ANSWER_SECONDS"])
        return super()._link(name, **{**given, "timeout": min(given.get("timeout", answer), answer)})


def main() -> None:
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: told.append(number))
    configure_logging("info", "json", Redactor())
    options = WorkerOptions(
        os.environ["DATABASE_URL"],
        concurrency=int(os.environ["CONCURRENCY"]),
        lease_seconds=float(os.environ["LEASE_SECONDS"]),
        poll_seconds=0.5,
        transaction_seconds=float(os.environ["ANSWER_SECONDS"]),
    )
    queue = Queue("jobs", handle, columns=("payload",), backoff=Backoff(first=0.01), keep_attempts="all")
    worker = Impatient(options, [queue])
    worker.start()
    while not told:
        time.sleep(0.1)
        if reason := worker.stuck():
            log.error("stuck", reason=reason)
            raise SystemExit(1)
    worker.drain(10.0)
    log.info("stopped")


if __name__ == "__main__":
    main()
