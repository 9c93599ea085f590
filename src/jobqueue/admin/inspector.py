"""Reads queues, workers and jobs for operators. Each statement has a limit on its time, however large the table is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import errors, sql

from jobqueue.admin.selection import (
    PACKAGE,
    UNINDEXED,
    Adopted,
    JobSource,
    Selection,
    block_source,
    id_source,
    indexed_sources,
    render_statement,
)
from jobqueue.kernel.database.limited import fetch, fetch_named
from jobqueue.kernel.database.statements import COUNT_CAP, Description, statement
from jobqueue.kernel.leasing.presence import is_alive
from jobqueue.moments import LONG_AGO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from jobqueue.kernel.database.limited import Connection
    from jobqueue.kernel.job import JobId

# Seconds that a statement may take: for figures that a screen asks for again and again, and for an answer a person awaits.
_GLANCE = 1.5
_READ = 10.0

# Blocks of 8 KiB that one statement reads. A table of no more than this is always read whole.
BLOCKS = 4096

# The most that counting completed jobs may cost, in the planner's unit, a block read in order: about 100 MiB of table.
_CHEAP = 20_000.0

# Attempts at one job that are shown.
_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Jobs by state, each counted to COUNT_CAP and no further: COUNT_CAP + 1 means "more than that".

    `oldest_due` is how long the oldest due job has waited, in seconds; None when none is due.
    """

    due: int
    delayed: int
    processing: int
    failed: int
    failed_last_hour: int
    oldest_due: float | None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Jobs completed in the last hour, the last five minutes and the last minute. `last_hour` is None where it costs too much."""

    last_hour: int | None
    last_5_minutes: int
    last_minute: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One process of jobqueue.workers; `silent` is the seconds since its last beat."""

    name: str
    version: str
    queues: list[str]
    concurrency: int
    in_flight: int
    draining: bool
    started_at: datetime
    silent: float

    @property
    def alive(self) -> bool:
        return is_alive(self.silent)


@dataclass(frozen=True, slots=True)
class Listed:
    """One job of a list. `status` is the queue's own word."""

    id: JobId
    status: str
    priority: int
    retry_count: int
    max_retries: int
    run_after: datetime
    created_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    lease_expires_at: datetime | None
    locked_by: str | None
    error_message: str | None
    kind: str | None


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """How one attempt at a job ended. `outcome` is completed, retried, failed, cancelled or crashed.

    `stages` are milliseconds by name, None when there were none.
    """

    attempt: int
    outcome: str
    started_at: datetime | None
    ended_at: datetime
    worker: str | None
    stages: dict[str, float] | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """Some jobs; `whole` when these are all, and False when the table may hold more of them or newer ones."""

    jobs: list[Listed]
    whole: bool


@dataclass(frozen=True, slots=True)
class Count:
    """How many jobs match: `number` when `exact`, and at least that many otherwise."""

    number: int
    exact: bool


_COLUMNS = sql.SQL(
    "t.id, t.status, t.priority, t.retry_count, t.max_retries, t.run_after, t.created_at::timestamptz, "
    "t.started_at::timestamptz, t.completed_at::timestamptz, t.lease_expires_at, t.locked_by, "
    "left(t.error_message, 2000), "
)


def list_queues(connection: Connection) -> list[Adopted]:
    """Every queue, by name. Raises psycopg.errors.UndefinedTable when the database was never migrated."""
    rows = fetch(connection, statement("list_queues", PACKAGE), seconds=_READ)
    return [Adopted(Description(*row[:-1]), row[-1]) for row in rows]


def list_workers(connection: Connection) -> list[WorkerRow]:
    """The processes that have shown themselves within a day, by name."""
    return [WorkerRow(*row) for row in fetch(connection, statement("list_workers"), seconds=_GLANCE)]


class Inspector:
    """Looks at one queue. Each method runs a few short statements, none of which locks anything.

    Every method raises psycopg.errors.QueryCanceled when the database takes too long to answer.
    """

    def __init__(self, connection: Connection, queue: Adopted) -> None:
        self._connection = connection
        self._queue = queue
        self._description = queue.description

    def depth(self) -> QueueDepth:
        """Count the jobs by state, each up to COUNT_CAP + 1."""
        query = render_statement("inspect_queue", self._description, cap=sql.Literal(COUNT_CAP + 1))
        *counts, oldest = fetch(self._connection, query, {}, seconds=_GLANCE)[0]
        due, delayed, processing, failed, lately = (min(int(n), COUNT_CAP + 1) for n in counts)
        return QueueDepth(due, delayed, processing, failed, lately, None if oldest is None else max(0.0, oldest))

    def throughput(self) -> Throughput | None:
        """Count the jobs completed lately; None where that would mean reading a large table.

        A queue has no index on completed jobs, because every job would pay for it. So the planner is asked first what
        counting would cost. It costs little on a table of up to about 100 MiB, or where the host has an index on
        completed_at; elsewhere nothing is counted.
        """
        for minutes in (60, 5):
            query = render_statement("count_completed", self._description, limit=sql.Literal(minutes))
            plan = fetch(self._connection, b"EXPLAIN (FORMAT JSON) " + query, {}, seconds=_GLANCE)[0][0]
            if plan[0]["Plan"]["Total Cost"] <= _CHEAP:
                try:
                    total, five, one = fetch(self._connection, query, {}, seconds=_GLANCE)[0]
                except errors.QueryCanceled:
                    return None
                return Throughput(total if minutes == 60 else None, five, one)
        return None

    def find(self, selection: Selection, limit: int) -> Found:
        """Find at most `limit` jobs that match.

        Jobs in progress come first, then due ones in the order of their turn, delayed ones by time, failed ones and at
        last otherwise finished ones, both the newest first. In a table of more than BLOCKS blocks the search for
        finished jobs starts at the end and stops as soon as there are enough.
        """
        if selection.ids:
            jobs = self._list(selection, id_source(self._description, selection), limit + 1)
            return Found(jobs[:limit], len(jobs) <= limit)
        jobs = []
        for source in indexed_sources(self._description, selection):
            if len(jobs) <= limit:
                jobs += self._list(selection, source, limit + 1 - len(jobs))
        whole = len(jobs) <= limit
        finished = selection.only(*UNINDEXED)
        if whole and finished.states:
            more = self._find_finished(finished, limit + 1 - len(jobs))
            jobs, whole = jobs + more.jobs, more.whole
        return Found(jobs[:limit], whole and len(jobs) <= limit)

    def _find_finished(self, selection: Selection, limit: int) -> Found:
        found: list[Listed] = []
        deadline = time.monotonic() + _READ
        first = self.blocks()
        while first > 0 and len(found) < limit and time.monotonic() < deadline:
            first, end = max(0, first - BLOCKS), first
            found += self._list(selection, block_source(self._description, selection, first, end), limit)
        found.sort(key=lambda job: job.completed_at or LONG_AGO, reverse=True)
        return Found(found[:limit], first == 0)

    def _list(self, selection: Selection, source: JobSource, limit: int) -> list[Listed]:
        query = render_statement(
            "list_due" if source.due else "list_jobs",
            self._description,
            columns=_COLUMNS + sql.SQL("t.kind::text" if self._queue.has_kind else "NULL"),
            source=source.condition,
            order=source.order,
            matches=selection.matches(),
            limit=sql.Literal(limit),
        )
        return [Listed(*row) for row in fetch(self._connection, query, selection.params(), seconds=_READ)]

    def count(self, selection: Selection) -> Count:
        """Count the jobs that match, up to COUNT_CAP and for about 10 seconds at most."""
        number, deadline = 0, time.monotonic() + _READ
        for source in self._sources(selection):
            query = render_statement(
                "count_jobs",
                self._description,
                source=source.condition,
                matches=selection.matches(),
                limit=sql.Literal(COUNT_CAP + 1 - number),
            )
            number += int(fetch(self._connection, query, selection.params(), seconds=_READ)[0][0])
            if number > COUNT_CAP or time.monotonic() > deadline:
                return Count(min(number, COUNT_CAP), exact=False)
        return Count(number, exact=True)

    def _sources(self, selection: Selection) -> Iterator[JobSource]:
        if selection.ids:
            yield id_source(self._description, selection)
            return
        yield from indexed_sources(self._description, selection)
        finished = selection.only(*UNINDEXED)
        blocks = self.blocks() if finished.states else 0
        for first in range(0, blocks, BLOCKS):
            yield block_source(self._description, finished, first, first + BLOCKS)

    def blocks(self) -> int:
        """The size of the table in blocks of 8 KiB."""
        query = render_statement("measure_heap", self._description)
        return int(fetch(self._connection, query, {}, seconds=_READ)[0][0])

    def show(self, id_: JobId) -> dict[str, Any] | None:
        """Give every column of one job by name; None when there is no such job."""
        query = render_statement("show_job", self._description)
        found = fetch_named(self._connection, query, {"id": id_}, seconds=_READ)
        return dict(zip(found.columns, found.rows[0], strict=True)) if found.rows else None

    def attempts(self, id_: JobId) -> list[EndedAttempt]:
        """Give what is kept of the attempts at one job, in their order: the last hundred at most."""
        query = render_statement("list_attempts", self._description, limit=sql.Literal(_ATTEMPTS))
        return [EndedAttempt(*row) for row in fetch(self._connection, query, {"id": id_}, seconds=_READ)][::-1]
