"""Strays: jobs that the database says this process holds, and that it has ended. Their outcomes were recorded, and are lost.

A standby that took its primary's place may lack the last commits, and so may a server that crashed with `synchronous_commit`
off. A job whose outcome was among them is in progress again, under a lease that nobody renews. When that ran out the job would
count as one whose worker died, which is wrong twice: nobody died, and the job would be charged for it. So it is given back.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.store import Store
    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.leasing.leases import Leases

log = get_logger(__name__)

# Seconds between the two looks by which a stray is told from a job that was claimed a moment ago: its claim's answer may be on the
# way. One that takes longer costs the job's beginning, and no more.
_CERTAIN_AFTER = 3.0


class Strays:
    """What one process finds of them, whose name is `worker`. For one thread; every method raises psycopg's errors."""

    def __init__(self, stores: dict[str, Store], leases: Leases, worker: str) -> None:
        self._stores = stores
        self._leases = leases
        self._worker = worker
        self._seen: dict[str, list[LeasedJob]] = {}
        self._seen_at = 0.0

    def look(self, link: Link) -> None:
        """Take the first look, in a new session: the server may be another one."""
        self._seen = {queue: self._find(link, queue) for queue in self._stores}
        self._seen_at = time.monotonic()

    def settle(self, link: Link) -> None:
        """Take the second look once it is time for it, and give back what is a stray in both. Cheap when there is none."""
        if time.monotonic() - self._seen_at < _CERTAIN_AFTER:
            return
        for queue, seen in self._seen.items():
            if not seen:
                continue
            leases = {(job.id, job.token) for job in seen}
            strays = [job for job in self._find(link, queue) if (job.id, job.token) in leases]
            if strays:
                given_back = len(self._stores[queue].release(link, strays))
                log.warning(
                    "outcomes_lost", queue=queue, jobs=given_back, reason="the database has lost its last commits"
                )
        self._seen = {}

    def _find(self, link: Link, queue: str) -> list[LeasedJob]:
        return [job for job in self._stores[queue].find_strays(link, self._worker) if not self._leases.holds(job)]
