"""How many jobs may be claimed now: how many fit, and how many are worth a statement."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from jobqueue.kernel.running.completer import MOST_UNRECORDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jobqueue.kernel.queue import Queue
    from jobqueue.kernel.running.completer import Completer
    from jobqueue.kernel.running.places import Places
    from jobqueue.kernel.running.thread_pool import Pool

# While there is a backlog, a claim waits this long, in seconds, for half of the slots to be free.
_PATIENCE = 0.002

# A claim from a backlog fills half of the slots, so that the other half works meanwhile. It fills all of them where half would
# be fewer than this many jobs: a statement costs as much as a hundred jobs.
WORTH_HALVING = 100

# Batch sizes; each is a statement of its own, because the limit in it is a literal.
_SIZES = (1000, 750, 500, 350, 250, 175, 125, 100, 75, 50, 36, 25, 18, 12, 8, 6, 4, 3, 2, 1)


class Capacity:
    """The slots of the pool, the limits of queues, and the outcomes that wait to be recorded.

    `apart` has the limits of the queues whose jobs run on the event loop, and take no slot.
    `wake` wakes the claimer, and sets `woken`. The jobs' threads and the completer's tell when capacity has grown.
    """

    def __init__(
        self,
        pool: Pool | Places,
        completer: Completer,
        queues: Iterable[str],
        apart: Mapping[str, int],
        woken: threading.Event,
        wake: Callable[[], None],
    ) -> None:
        self.in_flight = dict.fromkeys(queues, 0)
        self._apart = apart
        self._pool = pool
        self._completer = completer
        self._woken = woken
        self._wake = wake
        self._counting = threading.Lock()
        self._wanted = 1
        self._most = pool.size
        self._overdue = False

    # For the claimer's thread

    @property
    def empty(self) -> bool:
        """Whether no job is running or about to."""
        return not self._pool.in_flight

    @property
    def full(self) -> bool:
        """Whether nothing may be claimed: all slots are taken, or too many outcomes wait to be recorded."""
        # Set first, so that an outcome recorded meanwhile still wakes us.
        self._overdue = True
        self._overdue = self._completer.unrecorded > MOST_UNRECORDED
        return self._overdue or (
            self._pool.free <= 0 and all(self.in_flight[queue] >= limit for queue, limit in self._apart.items())
        )

    def prepare(self, *, backlog: bool) -> None:
        """Call before the claims of a turn. `backlog` says that the last claims left jobs behind: this then waits a moment for
        half of the slots, because a claim costs more by the statement than by the job."""
        self._most = self._pool.size
        if not backlog:
            return
        self._wanted = self._pool.size // 2
        if self._wanted >= WORTH_HALVING:
            self._most = self._wanted
        if 0 < self._pool.free < self._wanted:
            self._woken.clear()
            if self._pool.free < self._wanted:
                self._woken.wait(_PATIENCE)
        self._wanted = 1

    def batch(self, queue: Queue) -> int:
        """How many jobs of `queue` to ask for; 0 when it has to wait."""
        limit = self._apart.get(queue.name)
        if limit is not None:
            most = limit - self.in_flight[queue.name]
        else:
            most = min(self._pool.free, self._most)
            if queue.limit is not None:
                most = min(most, queue.limit - self.in_flight[queue.name])
        return next((size for size in _SIZES if size <= most), 0)

    def took(self, queue: str, jobs: int) -> None:
        """Jobs of `queue` were leased, and are about to run."""
        with self._counting:
            self.in_flight[queue] += jobs

    # For other threads

    def ended(self, queue: str) -> None:
        """A job of `queue` has run."""
        with self._counting:
            self.in_flight[queue] -= 1

    def freed(self) -> None:
        """A slot is free. Wakes the claimer when as many are free as it waits for."""
        if self._pool.free >= self._wanted and not self._woken.is_set():
            self._wake()

    def eased(self) -> None:
        """Fewer outcomes wait to be recorded. Wakes the claimer when they held it up and do so no more."""
        if self._overdue and self._completer.unrecorded <= MOST_UNRECORDED:
            self._overdue = False
            self._wake()
