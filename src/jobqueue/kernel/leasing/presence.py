"""Presence: how others know, long before its leases run out, that a worker was killed.

A process holds an advisory lock on the connection it listens on, under a number of its own, and writes that number into its
row of jobqueue.workers with every beat of its heartbeat. When a process ends, however it ends, its connections are closed and
the server gives the lock up. A worker is gone when its lock is free and it has not beaten for `GONE_AFTER` seconds.

Neither is enough by itself. A connection may be lost while the process lives: then it goes on beating, and takes another
number. A process may stand still or be starved: then its connections stay open. One that is cut off from the database
altogether, while the server sees its connections end, may be taken for dead: it stops acting on its jobs after
`ACTED_ON * GONE_AFTER` seconds without a beat, as it does when it cannot renew its leases, and so before others take over.

Behind a transaction pooler there is no session to hold a lock: such a worker has no presence, and its leases run out.
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


def take_presence(link: Link) -> int:
    """Hold a new lock for as long as the link's connection lives; returns its number.

    A new one each time: the session that held the last may not have ended yet on the server.
    """
    while True:
        number = randbelow(2**31)
        if link.fetch(b"SELECT pg_try_advisory_lock(%(class)s, %(number)s)", {"class": LOCK_CLASS, "number": number})[
            0
        ][0]:
            return number
