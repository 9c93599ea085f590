"""The witness: judges which workers are gone, by what it has seen in one uninterrupted session of its own. Pure.

A free lock means more to somebody who saw it held. The database may have been restarted, or a standby promoted: then all locks
are free at once, and workers that are well need a moment to come back. A witness whose own session is new has seen nothing yet,
and waits as long as anybody needs who lost a connection. It waits as long when many locks become free at once: then a pooler or
a balancer was restarted rather than many processes killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobqueue.kernel.database.rows import GoneWorker
from jobqueue.kernel.leasing.presence import FENCED_AFTER, GONE_AFTER, SILENT_AFTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.kernel.database.rows import WorkerPresence

MANY: Final = 3
"""Workers that are not killed one by one, when they are half of all or more."""


class Witness:
    """What one session has seen of the workers' presences. Times are time.monotonic()."""

    def __init__(self) -> None:
        self._held: set[GoneWorker] = set()
        self._free_since: dict[GoneWorker, float] = {}
        self._gone: set[GoneWorker] = set()

    def reset(self) -> None:
        """Forget what was seen: the session has ended. Who was found gone stays so."""
        self._held.clear()
        self._free_since.clear()

    def look(self, rows: Sequence[WorkerPresence], now: float) -> set[GoneWorker]:
        """The workers that are found gone by this look, whose answer came at `now`; each is found once."""
        known = {GoneWorker(row.name, row.presence): row for row in rows}
        self._held &= known.keys()
        self._gone &= known.keys()
        self._free_since = {key: since for key, since in self._free_since.items() if key in known}
        for key, row in known.items():
            if row.held:
                self._held.add(key)
                self._free_since.pop(key, None)
            else:
                self._free_since.setdefault(key, now)
        freed = self._held & self._free_since.keys() - self._gone
        many = len(freed) >= MANY and 2 * len(freed) >= len(known.keys() - self._gone)
        found = {
            key
            for key, since in self._free_since.items()
            if key not in self._gone and self._is_gone(known[key], now - since, watched=key in self._held and not many)
        }
        self._gone |= found
        return found

    @staticmethod
    def _is_gone(row: WorkerPresence, free_for: float, *, watched: bool) -> bool:
        if watched and row.fenced_after is not None:
            return free_for >= row.fenced_after + (GONE_AFTER - FENCED_AFTER)
        return free_for >= SILENT_AFTER and row.silent >= SILENT_AFTER
