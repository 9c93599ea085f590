"""The kind `job-retention`: deletes finished jobs, attempts, the audit and the records of ticks when they are old."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from jobqueue.admin.inspector import list_queues
from jobqueue.admin.repair import PURGE, Repair
from jobqueue.admin.selection import Selection
from jobqueue.database_session import connect
from jobqueue.errors import Permanent
from jobqueue.kernel.database.statements import STATES
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    import psycopg

    from jobqueue.kernel import Context, Job

log = get_logger(__name__)

_BATCH: Final = 1000

# Seconds that connecting may take, and for which the server may say nothing: more than any statement may take.
_CONNECT_SECONDS: Final = 5
_SILENCE: Final = 75.0

_PUBLISHING: Final = "publish_jobs"

# The last tick of each schedule stays, and so does a tick whose job has not ended.
_PRUNE_TICKS: Final = """
DELETE FROM jobqueue.schedule_ticks WHERE ctid = ANY (ARRAY(
    SELECT t.ctid FROM jobqueue.schedule_ticks AS t
    WHERE t.tick < now() - %(age)s::interval AND t.state <> 'enqueued'
      AND EXISTS (SELECT FROM jobqueue.schedule_ticks AS later WHERE later.schedule = t.schedule AND later.tick > t.tick)
    LIMIT %(limit)s))"""

_PRUNE_ATTEMPTS: Final = """
DELETE FROM jobqueue.attempts WHERE ctid = ANY (ARRAY(
    SELECT a.ctid FROM jobqueue.attempts AS a
    WHERE a.ended_at < now() - %(age)s::interval
    ORDER BY a.ended_at
    LIMIT %(limit)s))"""


_PRUNE_AUDIT: Final = """
DELETE FROM jobqueue.audit WHERE ctid = ANY (ARRAY(
    SELECT a.ctid FROM jobqueue.audit AS a
    WHERE a.at < now() - %(age)s::interval
    ORDER BY a.at
    LIMIT %(limit)s))"""


@dataclass(frozen=True, slots=True)
class _Published(Selection):
    """Jobs of `publish_jobs` without those that failed or were cancelled with objects in the store: such a job alone says where
    these are, until media-purge has removed them."""

    def matches(self) -> sql.Composable:
        return sql.SQL("{} AND (t.key_prefix IS NULL OR t.status = 'completed')").format(Selection.matches(self))


class FinishedJobs:
    """Deletes finished jobs that are older than `days` from every adopted queue, and attempts, entries of the audit and records of
    ticks as old as that.

    The payload may hold `keep`, queues whose jobs are left alone, and `states`, by default completed, cancelled and failed.
    """

    def __init__(self, conninfo: str, days: int) -> None:
        self._conninfo = conninfo
        self._age = timedelta(days=days)

    def run(self, job: Job, context: Context) -> None:
        """The handler. Each batch is small and a transaction: what was deleted stays so when this is interrupted.

        Raises Permanent for states that cannot be deleted, psycopg.Error, and what the context raises.
        """
        payload = job.columns["payload"]
        keep, states = payload.get("keep", []), tuple(payload.get("states", PURGE.allowed))
        if unknown := [state for state in states if state not in PURGE.allowed]:
            raise Permanent(f"the payload's states hold {unknown[0]!r}, which is none of {', '.join(PURGE.allowed)}")
        meant = tuple(state for state in STATES if state in states)
        with connect(self._conninfo, "retention", connect_timeout=_CONNECT_SECONDS, silence=_SILENCE) as connection:
            for queue in list_queues(connection):
                if queue.name in keep:
                    continue
                context.checkpoint()
                select = _Published if queue.name == _PUBLISHING else Selection
                with context.stage("purge"):
                    changed = Repair(connection, queue, PURGE, select(meant, older=self._age)).run(
                        lambda _changed: context.checkpoint()
                    )
                if changed.number or changed.locked or changed.more:
                    log.info("jobs_purged", purged_queue=queue.name, jobs=changed.number, locked=changed.locked)
        with context.stage("prune"):
            log.info("ticks_pruned", ticks=self._prune(context, _PRUNE_TICKS))
            log.info("attempts_pruned", attempts=self._prune(context, _PRUNE_ATTEMPTS))
            log.info("audit_pruned", entries=self._prune(context, _PRUNE_AUDIT))

    def _prune(self, context: Context, statement: str) -> int:
        total = 0
        while True:
            counts: list[int] = []

            def prune(cursor: psycopg.Cursor[Any], counts: list[int] = counts) -> None:
                counts.append(cursor.execute(statement.encode(), {"age": self._age, "limit": _BATCH}).rowcount)

            context.write(prune)
            total += counts[-1]
            if counts[-1] < _BATCH:
                return total
