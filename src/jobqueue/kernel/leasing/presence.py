"""Presence: how others learn whether a worker is alive, and, long before its leases run out, that it was killed.

A process holds an advisory lock on the connection it listens on, under a number of its own, and writes that number into its
row of jobqueue.workers with every beat of its heartbeat. When a process ends, however it ends, its connections are closed and
the server gives the lock up. A worker is gone when its lock is free and it has not beaten for `GONE_AFTER` seconds: its jobs
are then taken away.

Neither sign is enough by itself. A process may lose a connection and live: it goes on beating, and takes another number. A
process may stand still or starve: its connections stay open. A process may be cut off from the database altogether, while the
server sees its connections end: it is taken for gone, but has stopped acting on its jobs before, when three quarters of
`GONE_AFTER` had passed without a beat (see Leases.is_fresh).

Behind a transaction pooler there is no session to hold a lock: such a worker has no presence, and its leases run out.

People and reports ask less: a worker that has beaten within `ALIVE_SECONDS` is alive (see `is_alive`). Nothing is taken away
from one that has not.
"""

from __future__ import annotations

from secrets import randbelow
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jobqueue.kernel.database.link import Link

LOCK_CLASS: Final = 1_785_684_593
"""The first key of the advisory lock: "jobq" as a number. The second is the worker's own."""

GONE_AFTER: Final = 10.0
"""Seconds without a beat after which a worker whose lock is free is gone."""

BEAT_EVERY: Final = 3.0
"""Seconds between two beats, at most."""

ALIVE_SECONDS: Final = 30.0
"""Seconds without a beat after which a worker is not counted on: ten beats."""


def is_alive(silent: float) -> bool:
    """Whether a worker that last beat `silent` seconds ago is counted on."""
    return silent < ALIVE_SECONDS


def take_presence(link: Link) -> int:
    """Hold a new lock for as long as the link's connection lives; returns its number. Raises psycopg's errors.

    The number is a new one each time: the session that held the last may not have ended yet on the server.
    """
    while True:
        key = {"class": LOCK_CLASS, "number": randbelow(2**31)}
        [(taken,)] = link.fetch(b"SELECT pg_try_advisory_lock(%(class)s, %(number)s)", key)
        if taken:
            return key["number"]
