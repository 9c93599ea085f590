"""Which queues are paused and limited, and how they are paused: everywhere, and so that afterwards nothing more begins.

Every claim looks whether its queue is paused. A claim that began before the pause was committed may not have seen it, and so
`pause` waits until each of those has ended. It waits as the server does that builds an index concurrently: it locks nothing, and
asks for the transactions that hold the lock which every claim takes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobqueue.admin.selection import PACKAGE
from jobqueue.kernel.database.limited import fetch
from jobqueue.kernel.database.statements import statement

if TYPE_CHECKING:
    from datetime import datetime

    from jobqueue.kernel.database.limited import Connection

# Seconds that a statement may take.
_LIMIT = 10.0

# Seconds between two looks at the claims that are still under way, each of which takes milliseconds.
_GLANCE = 0.01

_UNITS = ((1, "s"), (60, "m"), (3600, "h"), (86_400, "d"))


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue, since when it is paused, and the limits over all processes that hold now; None where there is none.

    `spacing` are nanoseconds from one job to the next, `burst` jobs may start together.
    """

    name: str
    table: str
    paused_at: datetime | None
    global_concurrency: int | None
    spacing: int | None
    burst: int | None

    @property
    def rate(self) -> str | None:
        """The rate as people write it, in the shortest time in which a job starts."""
        if self.spacing is None:
            return None
        a_second = 1e9 / self.spacing
        seconds, unit = next((each for each in _UNITS if a_second * each[0] >= 1), _UNITS[-1])
        return f"{a_second * seconds:.6g}/{unit}"


def list_states(connection: Connection) -> list[QueueState]:
    """Every queue, by name. Raises psycopg.errors.UndefinedTable when the database was never migrated."""
    return [QueueState(*row) for row in fetch(connection, statement("list_states", PACKAGE), seconds=_LIMIT)]


def pause(connection: Connection, queue: str) -> bool:
    """Have no process claim from `queue` any more; returns whether that is new. Claims that began before may still end.

    Raises psycopg.errors.ForeignKeyViolation when there is no such queue.
    """
    return bool(fetch(connection, statement("pause_queue", PACKAGE), {"queue": queue}, seconds=_LIMIT))


def resume(connection: Connection, queue: str) -> bool:
    """Let processes claim from `queue` again; returns whether it was paused."""
    return bool(fetch(connection, statement("resume_queue", PACKAGE), {"queue": queue}, seconds=_LIMIT))


def wait_for_claims(connection: Connection, seconds: float) -> bool:
    """Wait until every claim that is under way has ended, for so many seconds at most; returns whether all have."""
    deadline = time.monotonic() + seconds
    before = _claims(connection)
    while before:
        if time.monotonic() > deadline:
            return False
        time.sleep(_GLANCE)
        before &= _claims(connection)
    return True


def _claims(connection: Connection) -> set[str]:
    return {row[0] for row in fetch(connection, statement("list_claims", PACKAGE), seconds=_LIMIT)}
