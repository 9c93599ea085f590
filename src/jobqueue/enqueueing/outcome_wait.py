"""Waits for how a job ends, by looking at its row. No connection waits without end."""

from __future__ import annotations

import asyncio
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import psycopg

from jobqueue.database_session import connect, connect_on_loop
from jobqueue.kernel.database.statements import Description, render, statement
from jobqueue.kernel.database.store import UnknownQueue

if TYPE_CHECKING:
    from jobqueue.kernel.job import JobId

# Seconds between two looks: the first, how they grow, the longest.
_FIRST: Final = 0.02
_GROWTH: Final = 1.5
_LONGEST: Final = 1.0

# Seconds in which a server answers a look by primary key, or is away.
_ANSWER: Final = 10.0

# What the row of a job says that gave way to a twin (kernel/sql/merge_twins.sql, sql/0011_coalescing.sql).
_GAVE_WAY: Final = re.compile(r"coalesced into job ([0-9a-f-]+), which was ")

# Hosts have no rights in the schema jobqueue, and need none for the general queue.
_JOBS: Final = Description(
    "jobs", "public.jobs", "bigint", "pending", "processing", "completed", "failed", "cancelled", "unique_key"
)

_LOOK: Final = b"SELECT id, status, error_message FROM {table} WHERE id = %(id)s"

Ending = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended. `error` is the message of its last attempt that failed, or why it was cancelled; None without one.

    `id` is another than the one that was asked for where that job gave way to a twin.
    """

    queue: str
    id: JobId
    status: Ending
    error: str | None


def wait(conninfo: str, job_id: JobId, *, queue: str = "jobs", timeout: float = 30.0) -> JobEnd:
    """Wait until the job has ended, and say how. It looks at the row up to fifty times a second at first and once a second later.

    Call it when the transaction that enqueued the job has been committed. It opens a connection of its own for as long as it
    waits; a transaction pooler will do. `timeout` is in seconds. For a `queue` other than `jobs` the role must be allowed to read
    `jobqueue.queues`.

    Raises TimeoutError when the job has not ended in time; the job goes on, and may be waited for again. Raises LookupError when
    there is no such job or queue, and psycopg.OperationalError when the database is away or silent for ten seconds.
    """
    look = _Look(queue, job_id, timeout)
    with connect(conninfo, "wait", connect_timeout=int(_ANSWER), silence=_ANSWER) as connection:
        if queue != "jobs":
            look.describe(connection.execute(statement("describe_queue"), {"name": queue}).fetchone())
        while (end := look.judge(connection.execute(look.query, {"id": look.id}).fetchone())) is None:
            time.sleep(look.rest())
        return end


async def wait_async(conninfo: str, job_id: JobId, *, queue: str = "jobs", timeout: float = 30.0) -> JobEnd:
    """As `wait`, on the event loop. A cancelled task closes its connection."""
    look = _Look(queue, job_id, timeout)
    try:
        # Until then either the last look has been answered, or the server is silent.
        async with (
            asyncio.timeout(timeout + _ANSWER),
            await connect_on_loop(conninfo, "wait", connect_timeout=int(_ANSWER)) as connection,
        ):
            if queue != "jobs":
                found = await connection.execute(statement("describe_queue"), {"name": queue})
                look.describe(await found.fetchone())
            while (end := look.judge(await (await connection.execute(look.query, {"id": look.id})).fetchone())) is None:
                await asyncio.sleep(look.rest())
            return end
    except TimeoutError as error:
        if look.late:
            raise
        raise psycopg.OperationalError("the database gives no answer") from error


class _Look:
    """Which row to look at, what it says, and when to look again."""

    def __init__(self, queue: str, job_id: JobId, timeout: float) -> None:
        if not (math.isfinite(timeout) and timeout >= 0):
            raise ValueError(f"timeout is {timeout}: it must be a number of seconds, of which there is an end")
        self.id = job_id
        self.late = False
        self._queue = queue
        self._timeout = timeout
        self._until = time.monotonic() + timeout
        self._pause = _FIRST
        self._table = _JOBS
        self._status = ""

    def describe(self, row: tuple[Any, ...] | None) -> None:
        """Look in the table of the queue that `row` describes. Raises UnknownQueue when there is none."""
        if row is None:
            raise UnknownQueue([f"there is no queue {self._queue!r} in this database"])
        self._table = Description(self._queue, *row)

    @property
    def query(self) -> bytes:
        """Takes the parameter `id`."""
        return render(_LOOK, self._table)

    def judge(self, row: tuple[Any, ...] | None) -> JobEnd | None:
        """How the job ended, or None while it has not, and where it gave way to a twin, which is looked at from now on.

        Raises LookupError when there is no row.
        """
        if row is None:
            raise LookupError(
                f"there is no job {self.id} in {self._queue}: its transaction has not been committed, or its row was deleted"
            )
        id_, self._status, error = row
        ends: dict[str, Ending] = {
            self._table.completed: "completed",
            self._table.failed: "failed",
            self._table.cancelled: "cancelled",
        }
        status = ends.get(self._status)
        if status == "cancelled" and error is not None and (twin := _GAVE_WAY.match(error)):
            self.id = twin[1]
            self._pause = 0.0
            return None
        return None if status is None else JobEnd(self._queue, id_, status, error)

    def rest(self) -> float:
        """Seconds until the next look. Raises TimeoutError when there is no time left."""
        left = self._until - time.monotonic()
        if left <= 0:
            self.late = True
            raise TimeoutError(f"job {self.id} of {self._queue} is still {self._status} after {self._timeout:g} s")
        pause, self._pause = min(self._pause, left), max(_FIRST, min(self._pause * _GROWTH, _LONGEST))
        return pause
