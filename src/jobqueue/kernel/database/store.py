"""Runs the kernel's statements for one queue: the only module that knows their parameters and their rows."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors

from jobqueue.errors import ConfigurationError
from jobqueue.kernel.database.lease_pairs import attempt_rows, lease_pairs
from jobqueue.kernel.database.rows import Depth, Permit, Rescued, Survey
from jobqueue.kernel.database.statements import COUNT_CAP, Description, Statements, statement
from jobqueue.kernel.job import LeasedJob
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from jobqueue.kernel.database.lease_pairs import Stages
    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.rows import GoneWorker, KeepAttempts, LaneFloors, LaneGaps, Limits, Retries
    from jobqueue.kernel.job import JobId


log = get_logger(__name__)

# How long a rescue waits for a lock: less than the server takes to look for deadlocks. When jobs are rescued one by one each
# waits hardly at all, and all of them together take no more than so many seconds.
_PATIENCE = "500ms"
_LITTLE_PATIENCE = "20ms"
_SINGLY_FOR = 5.0

# Classes of errors after which a connection is of no use: it is broken, or the server ends it.
_CUT_OFF = ("08", "57", "58", "XX")


class UnknownQueue(ConfigurationError, LookupError):
    """No table was adopted under this name."""


def describe(link: Link, name: str) -> Description:
    """The queue's table and words. Raises UnknownQueue when nothing was adopted under `name`."""
    rows = link.fetch(statement("describe_queue"), {"name": name})
    if not rows:
        tables = link.fetch(statement("find_tables"), {"name": name})
        hint = "run `jobqueue migrate`, or SELECT jobqueue.adopt('schema.table')"
        if tables:
            hint = f"the table {tables[0][0]} was not adopted; SELECT jobqueue.adopt('{tables[0][0]}')"
        raise UnknownQueue([f"there is no queue {name!r}: {hint}"])
    return Description(name, *rows[0])


def list_columns(link: Link, description: Description) -> dict[str, str]:
    """The types of the columns of the queue's table by name, the system's own included; none when the table is gone."""
    return dict(link.fetch(statement("list_columns"), {"table": description.table}))


def hidden_from(link: Link, description: Description) -> str | None:
    """The role of the link where row-level security hides the queue's jobs from it; None where it sees them."""
    [(role, hidden)] = link.fetch(statement("check_policies"), {"table": description.table})
    return str(role) if hidden else None


class Store:
    """The statements of one queue. Every method is one statement and one transaction, unless it takes a cursor.

    `keep_attempts` says of which outcomes an attempt is kept, and `worker` whose those are. `stages`, where a method takes them,
    are seconds by name, for each of the jobs.
    """

    def __init__(
        self,
        description: Description,
        columns: tuple[str, ...] = (),
        *,
        keep_attempts: KeepAttempts = "failed",
        worker: str | None = None,
        retries: Retries | None = None,
    ) -> None:
        self.description = description
        self._columns = columns
        self._sql = Statements(description, columns, retries)
        self._keeps_all = keep_attempts == "all"
        self._worker = worker

    # Claiming

    def claim(
        self, link: Link, lanes: LaneFloors, limit: int, token: UUID, worker: str, lease: float
    ) -> list[LeasedJob]:
        """Lease up to `limit` due jobs; returns them in the order in which to run them.

        Their twins have given way then: pending ones, and all but the first of those that were leased together. When the
        connection is lost, what was leased is not known, and whether twins gave way.
        """
        params = {
            "priorities": lanes.priorities, "floors": lanes.floors, "token": token, "worker": worker, "lease": lease
        }  # fmt: skip
        return self._leased(link, self._sql("claim_jobs", limit), params, token)

    def claim_suspect(self, link: Link, token: UUID, worker: str, lease: float) -> list[LeasedJob]:
        """Lease one suspect, if one is due."""
        params = {"token": token, "worker": worker, "lease": lease}
        return self._leased(link, self._sql("claim_suspect", 1), params, token)

    def claim_limited(
        self,
        link: Link,
        lanes: LaneFloors | None,
        limit: int,
        token: UUID,
        worker: str,
        lease: float,
        limits: Limits,
        back: float | None,
    ) -> tuple[list[LeasedJob], Permit]:
        """Lease as `claim` does, or without `lanes` as `claim_suspect` does, what the queue's limits over all processes permit.

        `limits` are this process' own; those that others stated hold as well. `back` as Lookback gives it, for leases.
        """
        before = time.monotonic()
        params = {
            "token": token, "worker": worker, "lease": lease, "back": back, "patience": str(int(lease * 1000)),
            **limits._asdict(), **({} if lanes is None else lanes._asdict()),
        }  # fmt: skip
        rows = link.fetch(self._sql.limited("claim_suspect" if lanes is None else "claim_jobs", limit), params)
        permit = Permit(*rows[0][:3])
        return self._jobs(link, [row[3:] for row in rows if row[3] is not None], token, before), permit

    def _leased(self, link: Link, query: bytes, params: dict[str, Any], token: UUID) -> list[LeasedJob]:
        # The lease runs from a moment after this one, so what is held is always believed to be held for less.
        before = time.monotonic()
        return self._jobs(link, link.fetch(query, params), token, before)

    def _jobs(self, link: Link, rows: Sequence[tuple[Any, ...]], token: UUID, before: float) -> list[LeasedJob]:
        name, columns = self.description.name, self._columns
        leased = [
            LeasedJob(
                name, id_, priority, retry_count, max_retries, max(0.0, waited),
                dict(zip(columns, values, strict=True)) if columns else {},
                token, position, crash_count, before,
            )
            for id_, priority, position, retry_count, max_retries, crash_count, waited, _, *values in rows
        ]  # fmt: skip
        leased.sort(key=lambda job: (-job.priority, job.position))
        if keyed := {row[0] for row in rows if row[7]}:
            gone = self._merge_twins(link, [job for job in leased if job.id in keyed])
            leased = [job for job in leased if job.id not in gone]
        return leased

    def _merge_twins(self, link: Link, jobs: Sequence[LeasedJob]) -> set[JobId]:
        """Have the twins of jobs that were just leased give way; returns those of them that did so themselves.

        Twins that a host's trigger or lock keeps as they are run as well, which is no more than work done twice.
        """
        try:
            return {row[0] for row in link.fetch(self._sql("merge_twins"), lease_pairs(jobs))}
        except psycopg.Error as error:
            if error.sqlstate is None or error.sqlstate[:2] in _CUT_OFF:
                raise
            log.warning("twins_not_merged", queue=self.description.name, error=str(error).strip())
            return set()

    def release_claim(self, link: Link, token: UUID) -> int:
        """Give back a claim whose answer was lost on the way; returns how many jobs it had leased."""
        return len(link.fetch(self._sql("release_claim"), {"token": token}))

    def survey(self, link: Link, lanes: LaneFloors, gaps: LaneGaps, back: float | None = None) -> Survey:
        """Look, without locking, at what a claim would not see. `back` as Lookback gives it, for delayed jobs."""
        params = {**lanes._asdict(), **gaps._asdict(), "back": back}
        return Survey(*link.fetch(self._sql("survey_queue"), params)[0])

    def mark(self, link: Link) -> int:
        """A transaction number above that of everybody who has drawn a position before."""
        return int(link.fetch(statement("mark_position"))[0][0])

    def promote(self, link: Link, back: float | None = None) -> int:
        """Make delayed jobs whose time has come due; returns how many (at most 1,000 a call). `back` as Lookback gives it."""
        return int(link.fetch(self._sql("promote_jobs"), {"back": back})[0][0])

    # Holding

    def renew(self, link: Link, held: Sequence[LeasedJob], lease: float) -> dict[JobId, bool]:
        """Extend leases; returns the ids that are still held, and whether each was extended.

        A lease is not extended while somebody has its row locked. An id that is missing is lost.
        """
        return dict(link.fetch(self._sql("renew_leases"), {**lease_pairs(held), "lease": lease}))

    def holds(self, cursor: psycopg.Cursor[Any], job: LeasedJob) -> bool:
        """Whether the lease is still held; if so the row stays locked until the caller's transaction ends."""
        return _finds(cursor, self._sql("hold_job"), {"id": job.id, "token": job.token})

    def find_recorded(self, link: Link, jobs: Sequence[LeasedJob]) -> set[JobId]:
        """The ids of jobs that ended under the leases given: a holder learns from it that its lost statement was carried out."""
        return {row[0] for row in link.fetch(self._sql("find_completed"), lease_pairs(jobs))}

    # Recording outcomes: each returns the ids that were still held and are now recorded

    def complete(self, link: Link, jobs: Sequence[LeasedJob], stages: Sequence[Stages] = ()) -> set[JobId]:
        if not self._keeps_all:
            return {row[0] for row in link.fetch(self._sql("complete_jobs"), lease_pairs(jobs))}
        return {
            row[0] for row in link.fetch(self._sql.keeping("complete_jobs"), attempt_rows(self._worker, jobs, stages))
        }

    def complete_within(self, cursor: psycopg.Cursor[Any], job: LeasedJob, stages: Stages | None = None) -> bool:
        """Record success inside the caller's transaction; the row stays locked until it ends. False: the lease is lost."""
        if not self._keeps_all:
            return _finds(cursor, self._sql("complete_jobs"), lease_pairs([job]))
        params = attempt_rows(self._worker, [job], [stages or {}])
        return _finds(cursor, self._sql.keeping("complete_jobs"), params)

    def find_completed(self, cursor: psycopg.Cursor[Any], job: LeasedJob) -> bool:
        """Whether an earlier attempt to record this holder's outcome was committed although its answer was lost."""
        return _finds(cursor, self._sql("find_completed"), lease_pairs([job]))

    def retry(
        self,
        link: Link,
        jobs: Sequence[LeasedJob],
        delays: Sequence[float],
        errors: Sequence[str],
        stages: Sequence[Stages] = (),
    ) -> dict[JobId, bool]:
        """Record failed attempts; returns for each id recorded whether it has failed for good."""
        params = attempt_rows(self._worker, jobs, stages, delays=delays, errors=errors)
        return dict(link.fetch(self._sql.keeping("retry_jobs"), params))

    def fail(
        self, link: Link, jobs: Sequence[LeasedJob], errors: Sequence[str], stages: Sequence[Stages] = ()
    ) -> set[JobId]:
        params = attempt_rows(self._worker, jobs, stages, errors=errors)
        return {row[0] for row in link.fetch(self._sql.keeping("fail_jobs"), params)}

    def cancel(
        self, link: Link, jobs: Sequence[LeasedJob], errors: Sequence[str], stages: Sequence[Stages] = ()
    ) -> set[JobId]:
        params = attempt_rows(self._worker, jobs, stages, errors=errors)
        return {row[0] for row in link.fetch(self._sql.keeping("cancel_jobs"), params)}

    def snooze(
        self, link: Link, jobs: Sequence[LeasedJob], delays: Sequence[float], errors: Sequence[str]
    ) -> set[JobId]:
        params = lease_pairs(jobs, delays=delays, errors=errors)
        return {row[0] for row in link.fetch(self._sql("snooze_jobs"), params)}

    def release(self, link: Link, jobs: Sequence[LeasedJob]) -> set[JobId]:
        return {row[0] for row in link.fetch(self._sql("release_jobs"), lease_pairs(jobs))}

    # Rescuing and measuring

    def rescue(self, link: Link, lease: float, back: float | None = None, gone: Sequence[str] = ()) -> list[Rescued]:
        """Take jobs away from workers that stopped renewing (at most 500 a call). `back` as Lookback gives it.

        The names in `gone` are of workers that get no lease to come back after a restart of the database.

        A job that comes back may have to wait for a lock that a host's trigger takes. It is passed over then: nobody's
        open transaction keeps other jobs from being rescued.
        """
        params = {"lease": lease, "back": back, "ids": None, "gone": list(gone), "patience": _PATIENCE}
        try:
            return [Rescued(*row) for row in link.fetch(self._sql("rescue_jobs"), params)]
        except errors.LockNotAvailable:
            return self._rescue_singly(link, params)

    def _rescue_singly(self, link: Link, params: dict[str, Any]) -> list[Rescued]:
        rescued: list[Rescued] = []
        deadline = time.monotonic() + _SINGLY_FOR
        for (id_,) in link.fetch(self._sql("list_lost"), params):
            with suppress(errors.LockNotAvailable):
                single = {**params, "ids": [id_], "patience": _LITTLE_PATIENCE}
                rescued += [Rescued(*row) for row in link.fetch(self._sql("rescue_jobs"), single)]
            if time.monotonic() > deadline:
                break
        return rescued

    def find_strays(self, link: Link, worker: str) -> list[LeasedJob]:
        """Jobs that are held in the name of `worker`, at most 500: of each the id and the lease's token, and nothing else."""
        rows = link.fetch(self._sql("find_strays"), {"worker": worker})
        name = self.description.name
        return [LeasedJob(name, id_, 0, 0, 0, 0.0, {}, token, 0, 0, 0.0) for id_, token in rows]

    def expire(self, link: Link, workers: Sequence[GoneWorker]) -> int:
        """End the leases of workers that are gone, at most 500 a call; returns how many."""
        params = {"names": [worker.name for worker in workers], "presences": [worker.presence for worker in workers]}
        return int(link.fetch(self._sql("expire_leases"), params)[0][0])

    def lease_orphans(self, link: Link, lease: float) -> int:
        """Give rows in progress without a lease one to end in; returns how many."""
        return int(link.fetch(self._sql("lease_orphans"), {"lease": lease})[0][0])

    def measure(self, link: Link, lanes: LaneFloors) -> Depth:
        """Depth by state and the age of the oldest due job."""
        *counts, oldest_due = link.fetch(self._sql("measure_queue"), lanes._asdict())[0]
        due, delayed, processing, failed = (min(int(count), COUNT_CAP) for count in counts)
        return Depth(due, delayed, processing, failed, float(oldest_due))


def _finds(cursor: psycopg.Cursor[Any], query: bytes, params: dict[str, Any]) -> bool:
    # Planned each time: in a host's session the planner is free to read a small table from end to end, and would keep
    # that plan when it has become large.
    return cursor.execute(query, params, prepare=False).fetchone() is not None
