"""What a handler is given besides its job: checkpoints, stages, and fenced transactions."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobqueue.errors import LeaseLost
from jobqueue.kernel.backoff import Reconnect
from jobqueue.kernel.link import LOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from psycopg_pool import ConnectionPool

    from jobqueue.kernel.leases import Leases
    from jobqueue.kernel.queue import Job
    from jobqueue.kernel.store import Store

Effects = "Callable[[psycopg.Cursor[Any]], None]"


class Context:
    """The handler's side of one attempt at a job. Not for use after the handler has returned."""

    def __init__(
        self,
        job: Job,
        store: Store,
        leases: Leases,
        pool: ConnectionPool[psycopg.Connection[tuple[Any, ...]]],
        interrupted: threading.Event,
        draining: threading.Event,
    ) -> None:
        self.job = job
        self.stages: dict[str, float] = {}
        self.committed = False
        self._store = store
        self._leases = leases
        self._pool = pool
        self._interrupted = interrupted
        self._draining = draining

    @property
    def draining(self) -> bool:
        """Whether the worker was asked to stop: a handler with a good place to pause may raise Interrupted there."""
        return self._draining.is_set()

    def checkpoint(self) -> None:
        """Call between steps, and before every step that others can see.

        Returns when the job may be acted on; waits while the database gives no answer about the lease. Raises LeaseLost
        when somebody else has the job or it was cancelled, Interrupted when the worker is shutting down.
        """
        self._leases.guard(self.job, self._interrupted)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a step of the work under `name`; the same name twice adds up."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - begun

    def write(self, effects: Callable[[psycopg.Cursor[Any]], None]) -> None:
        """Run `effects` in a transaction that commits only while this holder has the job; the job goes on.

        `effects` may run more than once when the connection is lost, so it must not change anything but the database.
        Raises LeaseLost or Interrupted as `checkpoint` does, and whatever `effects` raises.
        """
        self._fenced(effects, complete=False)

    def commit(self, effects: Callable[[psycopg.Cursor[Any]], None]) -> None:
        """Run `effects` and complete the job in one transaction: both happen, exactly once, or neither.

        The handler returns after this. Raises as `write` does; nothing is committed then.
        """
        self._fenced(effects, complete=True)
        self.committed = True

    def _fenced(self, effects: Callable[[psycopg.Cursor[Any]], None], *, complete: bool) -> None:
        reconnect = Reconnect()
        unanswered = False
        while True:
            self.checkpoint()
            try:
                with self._pool.connection(timeout=5.0) as connection, connection.cursor() as cursor:
                    if complete and unanswered and self._store.find_completed(cursor, self.job):
                        return
                    held = (
                        self._store.complete_within(cursor, self.job)
                        if complete
                        else self._store.holds(cursor, self.job)
                    )
                    if not held:
                        raise LeaseLost("the lease was lost: somebody else has the job, or it was cancelled")
                    effects(cursor)
                return
            except LOST:
                # The commit may have happened although its answer was lost: the next round looks before it writes.
                unanswered = True
                self._interrupted.wait(reconnect.next())
