"""Why a job is not running: one sentence, the first of the reasons that keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from jobqueue.admin.inspector import Inspector, list_workers
from jobqueue.admin.selection import render_statement
from jobqueue.kernel.database.limited import fetch
from jobqueue.kernel.database.statements import COUNT_CAP
from jobqueue.moments import LONG_AGO, NEVER, stamp

if TYPE_CHECKING:
    from datetime import datetime

    from jobqueue.admin.inspector import WorkerRow
    from jobqueue.admin.selection import Adopted
    from jobqueue.kernel.database.limited import Connection
    from jobqueue.kernel.job import JobId

# Seconds that one statement may take.
_LIMIT = 10.0

_PAUSED = b"SELECT paused_at FROM jobqueue.pauses WHERE queue = %(queue)s"

_NOW = b"SELECT clock_timestamp()"


class JobReasons:
    """Explains jobs of one queue. Every method raises psycopg.errors.QueryCanceled when the database takes too long to answer."""

    def __init__(self, connection: Connection, queue: Adopted) -> None:
        self._connection = connection
        self._queue = queue

    def explain(self, id_: JobId) -> str | None:
        """Say in a sentence what a job waits for, who has it, or how it ended; None when there is no such job."""
        job = Inspector(self._connection, self._queue).show(id_)
        if job is None:
            return None
        [(now,)] = fetch(self._connection, _NOW, {}, seconds=_LIMIT)
        match self._queue.state(job["status"]):
            case "pending":
                return self._pending(id_, job, now)
            case "processing":
                return _processing(job, now)
            case "completed":
                return f"it completed at {_at(job['completed_at'])}"
            case "cancelled":
                return f"it was cancelled at {_at(job['completed_at'])}{_because(job)}"
            case "failed":
                again = f"`jobqueue jobs requeue {self._queue.name} {id_}` tries it again"
                return (
                    f"it failed for good at {_at(job['completed_at'])}, {self._tried(id_, job)}{_because(job)}; {again}"
                )
        return f"its status {job['status']!r} is no state of the queue {self._queue.name}: no worker looks at it"

    def _tried(self, id_: JobId, job: dict[str, Any]) -> str:
        # A permanent failure uses up the count at once: how many attempts there were is not in the row.
        kept = Inspector(self._connection, self._queue).attempts(id_)
        if kept and kept[-1].outcome == "failed" and kept[-1].attempt < job["max_retries"]:
            return f"in attempt {kept[-1].attempt}, after which no other could do better"
        return f"after {job['retry_count']} of {job['max_retries']} attempts"

    def _pending(self, id_: JobId, job: dict[str, Any], now: datetime) -> str:
        name = self._queue.name
        due: datetime = job["run_after"]
        if due == NEVER:
            return "it is never due: its run_after is infinity"
        if due > now:
            attempt = (
                f" (attempt {job['retry_count'] + 1} of {max(job['max_retries'], 1)})" if job["retry_count"] else ""
            )
            return f"it is not due until {stamp(due)}{attempt}{_because(job)}"
        for (paused_at,) in fetch(self._connection, _PAUSED, {"queue": name}, seconds=_LIMIT):
            return f"the queue is paused since {stamp(paused_at)}: `jobqueue queues resume {name}`"
        serving = [worker for worker in list_workers(self._connection) if worker.alive and name in worker.queues]
        if not serving:
            return f"no worker is alive that serves {name}: start one with `jobqueue worker`"
        if all(worker.draining for worker in serving):
            return f"every worker that serves {name} is stopping: start another with `jobqueue worker`"
        if twin := self._twin(id_):
            return f"job {twin} has the same {self._queue.description.coalesce_by}: one run will do for both"
        if job["position"] is None:
            if job["crash_count"]:
                return f"it has lost its worker {job['crash_count']} times, and runs only while a worker has nothing else at work"
            return "it has been due for a moment: a worker gives it its turn at the next look"
        return self._turn(job, serving)

    def _turn(self, job: dict[str, Any], serving: list[WorkerRow]) -> str:
        query = render_statement(
            "count_ahead",
            self._queue.description,
            priority=sql.Literal(job["priority"]),
            place=sql.Literal(job["position"]),
            cap=sql.Literal(COUNT_CAP + 1),
        )
        [(higher, before)] = fetch(self._connection, query, {}, seconds=_LIMIT)
        ahead = [f"{_many(higher)} of higher priority"] if higher else []
        ahead += [f"{_many(before)} of its own that came first"] if before else []
        if ahead:
            return f"it waits behind {' and '.join(ahead)}"
        busy = all(worker.in_flight >= worker.concurrency for worker in serving)
        if busy:
            return "it is the next, and every worker has as many jobs in flight as it may"
        return "it is the next: a worker takes it at once"

    def _twin(self, id_: JobId) -> object | None:
        key = self._queue.description.coalesce_by
        if key is None:
            return None
        query = render_statement("find_twin", self._queue.description, key=sql.Identifier(key))
        found = fetch(self._connection, query, {"id": id_}, seconds=_LIMIT)
        return found[0][0] if found else None


def _processing(job: dict[str, Any], now: datetime) -> str:
    if job["lease_token"] is None or job["lease_expires_at"] is None:
        return f"its status is {job['status']!r}, and nobody holds a lease on it: somebody else than a worker set that"
    holder, until = job["locked_by"] or "somebody", job["lease_expires_at"]
    if until < now:
        return f"the lease of {holder} ran out at {stamp(until)}: the next worker of the queue takes it back"
    return f"it is running: {holder} has it since {_at(job['started_at'])}, leased until {stamp(until)}"


def _because(job: dict[str, Any]) -> str:
    return f", because: {job['error_message']}" if job["error_message"] else ""


def _at(moment: datetime | None) -> str:
    return "an unknown time" if moment in (None, NEVER, LONG_AGO) else str(stamp(moment))


def _many(number: int) -> str:
    return f"more than {COUNT_CAP:,}" if number > COUNT_CAP else f"{number:,}"
