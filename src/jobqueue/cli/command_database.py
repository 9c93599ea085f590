"""The database of the command line: one connection for one command."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobqueue.cli.command_failures import failed
from jobqueue.cli.console import note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.admin.selection import Adopted
    from jobqueue.kernel.database.limited import Connection
    from jobqueue.settings import Settings


@contextmanager
def open_database(settings: Settings | None = None) -> Iterator[Connection]:
    """Connect to DATABASE_URL for the length of the block. Nothing is prepared, so a transaction pooler will do.

    Raises ConfigurationError, and psycopg.OperationalError when the database cannot be reached.
    """
    from jobqueue.database_session import connect
    from jobqueue.settings import load_settings

    connection = connect((settings or load_settings()).conninfo, "cli")
    try:
        yield connection
    finally:
        connection.close()


def find_queue(connection: Connection, name: str) -> Adopted:
    """Give the queue called `name`. Raises Stop when there is none; it lists the queues that exist."""
    from jobqueue.admin.inspector import list_queues

    queues = list_queues(connection)
    for queue in queues:
        if queue.name == name:
            return queue
    names = ", ".join(queue.name for queue in queues) or "none: run `jobqueue migrate`"
    raise failed(f"there is no queue {name!r}; the queues of this database are: {names}")


def warn_unless_served(connection: Connection, queue: str) -> None:
    """Tell the person who is about to wait that no worker is alive for `queue`, if that is so."""
    from jobqueue.admin.inspector import list_workers

    if not any(worker.alive and queue in worker.queues for worker in list_workers(connection)):
        note(f"no worker is alive for {queue}: start one with `jobqueue worker`")
