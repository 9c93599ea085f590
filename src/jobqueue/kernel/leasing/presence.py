"""Presence: how others learn whether a worker is alive, and, long before its leases run out, that it was killed.

A process holds an advisory lock on its heartbeat's connection, under a number of its own, and writes that number into its row
of jobqueue.workers with every beat. When a process ends, however it ends, its connections are closed and the server gives the
lock up within milliseconds. A free lock alone does not say that the process is dead: the server may have seen a connection end
that the process still believes in, and then nothing tells the process.

So three durations work together. The process asks for a sign of life on that connection every `PING_EVERY` seconds. It acts on
no job once the last request that was answered is `FENCED_AFTER` seconds old, counted from when it was sent (see
Leases.is_fresh). A witness takes it for gone when the lock, which the witness has seen held, has been free for `GONE_AFTER`
seconds and the process has not taken another number (see witness.py). The last request that was answered was sent before the
lock became free, and so the process has stopped before its jobs are taken. No two clocks are compared.

A process that stands still or starves keeps its lock: nobody takes its jobs before its leases run out. Behind a transaction
pooler there is no session to hold a lock: such a worker has no presence, and its leases run out.

People and reports ask less: a worker that has beaten within `ALIVE_SECONDS` is alive (see `is_alive`). Nothing is taken away
from one that has not.
"""

from __future__ import annotations

from secrets import randbelow
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jobqueue.kernel.database.link import Link

LOCK_CLASS: Final = 1_785_684_593
"""The first key of the advisory locks: "jobq" as a number. The second is the worker's own, or a witness's seat below 0."""

PING_EVERY: Final = 0.4
"""Seconds between two signs of life that a process asks for on the connection that holds its presence."""

FENCED_AFTER: Final = 1.0
"""Seconds after the sending of the last request that was answered after which a process acts on no job."""

GONE_AFTER: Final = FENCED_AFTER + 0.2
"""Seconds for which a witness has to see a presence's lock free before it takes the process for gone."""

SILENT_AFTER: Final = 10.0
"""The same, for a process of a version that fences itself later, and for whatever happened where no witness looked. Such a
process must have been silent for as long, too."""

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
        number = randbelow(2**31)
        if take_lock(link, number):
            return number


def take_lock(link: Link, number: int) -> bool:
    """Hold a lock of ours for as long as the link's connection lives; returns whether it was free. Raises psycopg's errors."""
    key = {"class": LOCK_CLASS, "number": number}
    [(taken,)] = link.fetch(b"SELECT pg_try_advisory_lock(%(class)s, %(number)s)", key)
    return bool(taken)
