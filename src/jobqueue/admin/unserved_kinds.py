"""Kinds of jobs that no process has a handler for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jobqueue.admin.selection import PACKAGE
from jobqueue.kernel.database.limited import fetch
from jobqueue.kernel.database.statements import statement

if TYPE_CHECKING:
    from jobqueue.kernel.database.limited import Connection

# Seconds that the statement may take: it is for screens that ask again and again.
_GLANCE: Final = 1.5


@dataclass(frozen=True, slots=True)
class UnservedKind:
    """A kind that every process which looked at its jobs has put off, for a minute and longer. `jobs` stops at 10,000."""

    kind: str
    jobs: int

    @property
    def sentence(self) -> str:
        """The same for a person."""
        return f"no worker serves the kind {self.kind!r}: {self.jobs:,} {'job waits' if self.jobs == 1 else 'jobs wait'} for one"


def list_unserved(connection: Connection) -> list[UnservedKind]:
    """The kinds that nobody serves, the most wanted first. Raises psycopg.Error."""
    rows = fetch(connection, statement("list_unserved", PACKAGE), {}, seconds=_GLANCE)
    return [UnservedKind(kind, jobs) for kind, jobs in rows]
