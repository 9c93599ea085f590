"""The heartbeat: renews leases and holds the process' presence on its own connection, first to start and last to stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobqueue.kernel.database.statements import statement
from jobqueue.kernel.leasing.presence import BEAT_EVERY, FENCED_AFTER, PING_EVERY, take_presence
from jobqueue.kernel.leasing.strays import Strays
from jobqueue.kernel.loop import Loop
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.store import Store
    from jobqueue.kernel.leasing.leases import Leases
    from jobqueue.kernel.meter import Meter

log = get_logger(__name__)

# Seconds between two questions about leases. Every retry anywhere looks like a lease that was taken away, and there are many.
_CHECK_EVERY = 0.25


class Heartbeat(Loop):
    """Renews each lease at least four times in its length, and shows the process in jobqueue.workers every BEAT_EVERY seconds.

    `introduce()` gives that row: name, version, queues, concurrency, in_flight, draining. The link leads past a transaction
    pooler where it can: then the process has a presence, and asks for a sign of life every PING_EVERY seconds.
    """

    name = "heartbeat"

    def __init__(
        self,
        link: Link,
        meter: Meter,
        stores: dict[str, Store],
        leases: Leases,
        introduce: Callable[[], dict[str, Any]],
    ) -> None:
        super().__init__(link, meter)
        self._stores = stores
        self._leases = leases
        self._introduce = introduce
        self._interval = leases.lease_seconds / 4
        self._asked = False
        self._due_at = time.monotonic()
        self._renewed_at = -1e9
        self._checked_at = -1e9
        self._answered_at = -1e9
        self._session = 0
        self._strays = Strays(stores, leases, introduce()["name"])
        self._presence: int | None = None

    @property
    def current(self) -> bool:
        """Whether this process renewed its leases lately: only then may it judge that others did not."""
        return time.monotonic() - self._renewed_at < self._leases.lease_seconds / 2

    def check(self) -> None:
        """Ask about every lease soon, because one may have been revoked. Callable from any thread."""
        self._asked = True
        self.wake()

    def beat(self) -> None:
        """Show this process now. Callable from any thread."""
        self._due_at = time.monotonic()
        self.wake()

    def turn(self) -> float:
        self.link.connection()
        if self._session != self.link.opened:
            self._begin()
        now = time.monotonic()
        due = now >= self._due_at
        asked = self._asked and now - self._checked_at >= _CHECK_EVERY
        if asked:
            self._asked, self._checked_at = False, now
        if asked or due:
            # A lease that is a moment old needs no renewal: most short jobs never see one.
            self._renew(0.0 if asked else self._interval * 0.5)
            self._renewed_at = now
        if due:
            self.meter.metrics.heartbeat_delay_seconds.set(now - self._due_at)
            self._due_at = now + min(BEAT_EVERY, self._interval)
            self._beat()
            self._strays.settle(self.link)
        elif self._presence is not None and time.monotonic() - self._answered_at >= PING_EVERY:
            self._ask(b"SELECT 1")
        return self._rest_for()

    def _rest_for(self) -> float:
        until = min(self._due_at, self._checked_at + _CHECK_EVERY) if self._asked else self._due_at
        if self._presence is not None:
            until = min(until, self._answered_at + PING_EVERY)
        return max(0.0, until - time.monotonic())

    def _begin(self) -> None:
        """Begin a new session: take a presence and show it, and learn what became of the leases before acting on them again.

        In this order: who sees the new presence lets the leases be, and what was taken before is known as lost.
        """
        session = self.link.opened
        self._presence = None
        if self.link.connection().prepare_threshold is not None:
            self._presence = take_presence(self.link)
        sent_at = time.monotonic()
        self.link.fetch(statement("beat_worker"), self._row())
        self._renew(0.0)
        self._renewed_at = sent_at
        if self._session:
            self._strays.look(self.link)
        self._session = session
        self._answered(sent_at)

    def _beat(self) -> None:
        self._ask(statement("beat_worker"), self._row())

    def _ask(self, query: bytes, params: dict[str, Any] | None = None) -> None:
        """Run a statement whose answer is the sign of life."""
        sent_at = time.monotonic()
        self.link.fetch(query, params)
        self._answered(sent_at)

    def _row(self) -> dict[str, Any]:
        fenced_after = None if self._presence is None else FENCED_AFTER
        return {**self._introduce(), "presence": self._presence, "fenced_after": fenced_after}

    def _answered(self, sent_at: float) -> None:
        """The server answered what was sent at `sent_at`, in the session that holds the presence."""
        self._answered_at = sent_at
        self._leases.seen(sent_at, present=self._presence is not None)

    def lost(self) -> None:
        # Renew and show as soon as the database is back.
        self._due_at = min(self._due_at, time.monotonic())
        self._asked = True

    def _renew(self, seconds: float) -> None:
        for queue, jobs in self._leases.older_than(seconds).items():
            sent_at = time.monotonic()
            still_held = self._stores[queue].renew(self.link, jobs, self._leases.lease_seconds)
            for job in self._leases.renewed(jobs, still_held, sent_at):
                # A job whose outcome is on the way loses its lease by that.
                if not job.ended:
                    log.warning("lease_lost", queue=queue, job_id=str(job.id), attempt=job.attempt)

    def last(self) -> None:
        try:
            self.link.fetch(statement("forget_worker"), {"name": self._introduce()["name"]})
        except Exception as error:  # noqa: BLE001 - the row is for people to look at: to leave it costs nothing
            log.debug("worker_row_left", error=str(error).strip())
