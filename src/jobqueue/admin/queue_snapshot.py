"""How every queue and every worker stands at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from psycopg import errors

from jobqueue.admin.inspector import Inspector, QueueDepth, Throughput, WorkerRow, list_queues, list_workers
from jobqueue.admin.queue_states import list_states
from jobqueue.admin.unserved_kinds import list_unserved

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.admin.unserved_kinds import UnservedKind
    from jobqueue.kernel.database.limited import Connection


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue; what could not be found out in time is None. `paused_at` is None where it is not paused."""

    name: str
    depth: QueueDepth | None
    throughput: Throughput | None
    paused_at: datetime | None = None

    @property
    def failure_share(self) -> float | None:
        """Failed jobs as a share, 0 to 1, of those that ended within the last hour; None when it is not known or none did."""
        if self.depth is None or self.throughput is None or self.throughput.last_hour is None:
            return None
        ended = self.depth.failed_last_hour + self.throughput.last_hour
        return self.depth.failed_last_hour / ended if ended else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every queue and every worker at the moment `at`, in UTC by this machine's clock, and the kinds that nobody serves."""

    at: datetime
    queues: list[QueueStats]
    workers: list[WorkerRow]
    unserved: list[UnservedKind]


def take_snapshot(connection: Connection, on_late: Callable[[str], object] = lambda _queue: None) -> Snapshot:
    """Look at every queue and every worker.

    A queue that does not answer in time leaves its figures None, and its name is given to `on_late`; the others are
    looked at all the same. Raises psycopg.Error when the list of queues or of workers cannot be read.
    """
    found = []
    paused = {state.name: state.paused_at for state in list_states(connection)}
    for queue in list_queues(connection):
        inspector = Inspector(connection, queue)
        depth, throughput = None, None
        try:
            depth = inspector.depth()
            throughput = inspector.throughput()
        except (errors.QueryCanceled, errors.LockNotAvailable):
            on_late(queue.name)
        found.append(QueueStats(queue.name, depth, throughput, paused.get(queue.name)))
    unserved = []
    try:
        unserved = list_unserved(connection)
    except (errors.QueryCanceled, errors.LockNotAvailable):
        on_late("jobs")
    return Snapshot(datetime.now(UTC), found, list_workers(connection), unserved)
