"""Puts jobs back, calls them off or deletes them, in batches that hold no lock for long.

A repair first finds the jobs, without a lock. Then it changes a thousand at a time, each batch in a transaction of its own,
which looks again, under the lock, whether the job still is what was asked for. It comes back to jobs that somebody has locked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import sql

from jobqueue.admin.inspector import Inspector
from jobqueue.admin.selection import (
    UNINDEXED,
    Adopted,
    Selection,
    block_source,
    id_source,
    indexed_sources,
    render_statement,
)
from jobqueue.kernel.database.limited import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jobqueue.kernel.database.limited import Connection
    from jobqueue.kernel.job import JobId

# Rows that one statement changes.
BATCH = 1_000

# Ids that one run holds in memory; the rest is left for the next run.
MOST = 1_000_000

# Blocks of 8 KiB that one statement searches for finished jobs.
_BLOCKS = 1024

# Seconds that one statement may take.
_LIMIT = 30.0

# How often a locked job is tried, and the seconds between two attempts: locks on jobs are short.
_ATTEMPTS = 4
_PAUSE = 0.25


@dataclass(frozen=True, slots=True)
class Action:
    """A repair: the states that it takes, and those that it takes when the caller names none."""

    name: str
    statement: str
    allowed: tuple[str, ...]
    default: tuple[str, ...]


REQUEUE = Action("requeue", "requeue_jobs", ("pending", "failed", "cancelled", "completed"), ("failed",))
CANCEL = Action("cancel", "revoke_jobs", ("pending", "processing"), ("pending", "processing"))
PURGE = Action("purge", "purge_jobs", ("completed", "cancelled", "failed"), ("completed", "cancelled"))


@dataclass(slots=True)
class RepairResult:
    """What a repair did: `number` jobs are as the caller asked.

    `coalesced` jobs had a pending twin and ended cancelled. `locked` jobs stayed locked by somebody else and are as they
    were. `more` says that one run could not look at all of them. `ids` are the changed ones of the jobs named by id.
    """

    number: int = 0
    coalesced: int = 0
    locked: int = 0
    more: bool = False
    ids: list[JobId] = field(default_factory=list)


class _ChangedJob(NamedTuple):
    """A job that a statement changed; `as_asked` unless it ended cancelled in favour of its pending twin."""

    id: JobId
    as_asked: bool


class Repair:
    """Carries out one action on the jobs of one queue that match a selection."""

    def __init__(self, connection: Connection, queue: Adopted, action: Action, selection: Selection) -> None:
        self._connection = connection
        self._description = queue.description
        self._selection = selection
        self._inspector = Inspector(connection, queue)
        by_id = id_source(queue.description, selection).condition
        self._statement = self._render(action.statement, by_id)
        self._again = self._render("find_jobs", by_id)

    def run(self, on_progress: Callable[[RepairResult], object] = lambda _changed: None) -> RepairResult:
        """Change the jobs, and call `on_progress` after each batch.

        Raises psycopg.Error when the database refuses. Batches that were changed before that, or before an interruption,
        stay changed.
        """
        changed = RepairResult()
        for ids in self._candidates(changed):
            for start in range(0, len(ids), BATCH):
                self._change(ids[start : start + BATCH], changed)
                on_progress(changed)
        return changed

    def _candidates(self, changed: RepairResult) -> Iterator[Sequence[JobId]]:
        if self._selection.ids:
            yield self._selection.ids
            return
        for source in indexed_sources(self._description, self._selection):
            ids = self._find(source.condition)
            changed.more |= len(ids) == MOST
            yield ids
        finished = self._selection.only(*UNINDEXED)
        # The end is fixed here: nobody asked for rows that are added behind it meanwhile.
        blocks = self._inspector.blocks() if finished.states else 0
        for first in range(0, blocks, _BLOCKS):
            yield self._find(block_source(self._description, finished, first, first + _BLOCKS).condition)

    def _change(self, ids: Sequence[JobId], changed: RepairResult) -> None:
        left = list(ids)
        # No retry of one call, which tenacity would carry: each attempt is about what the one before left.
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE)
            left = self._change_unlocked(left, changed)
            if not left:
                return
        changed.locked += len(left)

    def _change_unlocked(self, ids: Sequence[JobId], changed: RepairResult) -> list[JobId]:
        """Change those of `ids` that nobody has locked; returns the locked ones."""
        done = [_ChangedJob(*row) for row in self._fetch(self._statement, ids)]
        as_asked = sum(job.as_asked for job in done)
        changed.number += as_asked
        changed.coalesced += len(done) - as_asked
        if self._selection.ids:
            changed.ids += [job.id for job in done]
        # Every other job was locked, unless it is no longer what was asked for.
        done_ids = {job.id for job in done}
        left = [id_ for id_ in ids if id_ not in done_ids]
        return [id_ for (id_,) in self._fetch(self._again, left)] if left else left

    def _find(self, condition: sql.Composable) -> list[JobId]:
        return [id_ for (id_,) in self._fetch(self._render("find_jobs", condition), ())]

    def _fetch(self, query: bytes, ids: Sequence[JobId]) -> list[tuple[Any, ...]]:
        return fetch(self._connection, query, self._selection.params(ids=list(ids)), seconds=_LIMIT)

    def _render(self, name: str, condition: sql.Composable) -> bytes:
        return render_statement(
            name, self._description, source=condition, matches=self._selection.matches(), limit=sql.Literal(MOST)
        )
