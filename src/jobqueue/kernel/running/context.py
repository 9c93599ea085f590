"""What a handler gets besides its job: checkpoints, stages, and fenced transactions."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg import errors
from tenacity import Retrying, retry_if_exception

from jobqueue.backoff import RECONNECT
from jobqueue.errors import LeaseLost, Snooze, TimedOut
from jobqueue.kernel.database.link import LOST
from jobqueue.kernel.leasing.leases import LOST_LEASE
from jobqueue.kernel.running.commit_in_doubt import CommitInDoubt

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    import psycopg
    from tenacity import RetryCallState

    from jobqueue.kernel.database.store import Store
    from jobqueue.kernel.job import Job, LeasedJob
    from jobqueue.kernel.leasing.leases import Leases
    from jobqueue.kernel.running.transactions import Transactions


# A job's own row is waited for half a second; the effects may wait for theirs.
_WAIT_FOR_LOCKS = b"SET LOCAL lock_timeout = 0"

# Seconds between two attempts to write while something else has to end first.
_NOT_YET = 0.5


class _NotYet(Exception):
    """Somebody holds the job's row locked, or the server is not done with a commit. The handler's work is kept, and recorded
    as soon as that is possible."""


@contextmanager
def _not_yet_when_locked() -> Iterator[None]:
    try:
        yield
    except errors.LockNotAvailable as error:
        raise _NotYet from error


def _not_awaited(name: str) -> RuntimeError:
    return RuntimeError(f"only an async def handler awaits context.a{name}: this one calls context.{name}")


def _passes(error: BaseException) -> bool:
    """Whether to try again after `error`. When the server answers and gave the work up, the attempt has failed."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return False
    return isinstance(error, (_NotYet, *LOST, errors.IdleInTransactionSessionTimeout))


def _pause(state: RetryCallState) -> float:
    waits = state.outcome is not None and isinstance(state.outcome.exception(), _NotYet)
    return _NOT_YET if waits else RECONNECT(state)


# One for all contexts: it is taken only after a wait.
_counting = threading.Lock()


class Context:
    """The handler's side of one attempt at a job. Not for use after the handler has returned.

    A handler that is an `async def` awaits `acheckpoint`, `aread`, `awrite` and `acommit`, which do what those without the `a` do;
    `effects` is a plain function there too.

    `without_database` counts the seconds in which `checkpoint` waited for the database, once for all threads of a handler.
    """

    __slots__ = (
        "_counted_until",
        "_draining",
        "_interrupted",
        "_job",
        "_leases",
        "_store",
        "_transactions",
        "committed",
        "stages",
        "without_database",
    )

    def __init__(
        self,
        job: LeasedJob,
        store: Store,
        leases: Leases,
        transactions: Transactions,
        interrupted: threading.Event,
        draining: threading.Event,
    ) -> None:
        self._job = job
        self.stages: dict[str, float] = {}
        self.committed = False
        self.without_database = 0.0
        self._counted_until = 0.0
        self._store = store
        self._leases = leases
        self._transactions = transactions
        self._interrupted = interrupted
        self._draining = draining

    @property
    def job(self) -> Job:
        """The job that this is the context of."""
        return self._job

    @property
    def draining(self) -> bool:
        """Whether the worker was asked to stop. A handler that has a good place to pause may raise Interrupted there."""
        return self._draining.is_set()

    def checkpoint(self) -> None:
        """Return when the job may be acted on. Call it between steps, and before every step that others can see.

        It waits while the database gives no answer about the lease. Raises LeaseLost when somebody else has the job or it was
        cancelled, Interrupted when the worker is shutting down, TimedOut when the queue's timeout is over.
        """
        waited = self._leases.guard(self._job, self._interrupted)
        if waited > 0.0:
            self._count(waited)
        until = self._job.until
        if until is not None and time.monotonic() >= until:
            raise TimedOut("the handler took longer than the queue's timeout")

    def _count(self, waited: float) -> None:
        """Add a wait that ends now. The threads of a handler wait for the same answer, and at the same time."""
        with _counting:
            now = time.monotonic()
            spent = min(waited, now - self._counted_until)
            self.without_database += spent
            self._counted_until = now
            if self._job.until is not None:
                # No handler is charged with that.
                self._job.until += spent

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a step of the work under `name`; the same name twice adds up."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - begun

    def read(self, query: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of one query, in a transaction of its own. Waits for the database and raises as `commit` does."""
        found: list[tuple[Any, ...]] = []

        def select(cursor: psycopg.Cursor[Any]) -> None:
            found[:] = cursor.execute(query.encode(), params).fetchall()

        self._transact(select)
        return found

    def write(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> None:
        """Run `effects` in a transaction that commits only while this holder has the job, and once; the job goes on.

        `effects` is called again when a transaction was lost and did not happen, so it must change nothing but the database.
        Raises LeaseLost or Interrupted as `checkpoint` does, and whatever `effects` raises. Raises Snooze when the server
        crashed or was replaced during the commit, and nobody can know whether it happened: the job then runs again,
        uncharged.
        """
        in_doubt: CommitInDoubt | None = None

        def fenced(cursor: psycopg.Cursor[Any]) -> None:
            nonlocal in_doubt
            if in_doubt is not None:
                match in_doubt.settle(cursor.connection):
                    case "committed":
                        return
                    case "in progress":
                        raise _NotYet
                    case None:
                        raise Snooze("the database crashed or was replaced during a commit that may have happened", 0.0)
                    case "aborted":
                        in_doubt = None
            self._bound(cursor)
            with _not_yet_when_locked():
                held = self._store.holds(cursor, self._job)
            if not held:
                raise LeaseLost(LOST_LEASE)
            cursor.execute(_WAIT_FOR_LOCKS)
            effects(cursor)
            in_doubt = CommitInDoubt(cursor.connection)

        self._transact(fenced)

    def commit(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> None:
        """Run `effects` and complete the job in one transaction: both happen, exactly once, or neither.

        `effects` may be called again, as by `write`. The handler must return after this. Raises LeaseLost or Interrupted as
        `checkpoint` does, and whatever `effects` raises. Nothing is committed then, with one exception: the answer to a COMMIT
        was lost, and the lease or the time to drain ended before we could ask for it again.
        """
        attempts = 0

        def fenced(cursor: psycopg.Cursor[Any]) -> None:
            nonlocal attempts
            attempts += 1
            self._bound(cursor)
            with _not_yet_when_locked():
                held = self._store.complete_within(cursor, self._job, self.stages)
            # An earlier commit whose answer was lost may have happened: the outcome that it left shows that.
            if not held and attempts > 1 and self._store.find_completed(cursor, self._job):
                return
            if not held:
                raise LeaseLost(LOST_LEASE)
            cursor.execute(_WAIT_FOR_LOCKS)
            effects(cursor)

        self._transact(fenced)
        self.committed = True

    def acheckpoint(self) -> Coroutine[Any, Any, None]:
        """`checkpoint`, awaited. Raises RuntimeError in a handler that is no `async def`."""
        raise _not_awaited("checkpoint")

    def aread(self, query: str, params: Mapping[str, Any]) -> Coroutine[Any, Any, list[tuple[Any, ...]]]:  # noqa: ARG002
        """`read`, awaited. Raises RuntimeError in a handler that is no `async def`."""
        raise _not_awaited("read")

    def awrite(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> Coroutine[Any, Any, None]:  # noqa: ARG002
        """`write`, awaited. Raises RuntimeError in a handler that is no `async def`."""
        raise _not_awaited("write")

    def acommit(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> Coroutine[Any, Any, None]:  # noqa: ARG002
        """`commit`, awaited. Raises RuntimeError in a handler that is no `async def`."""
        raise _not_awaited("commit")

    def _bound(self, cursor: psycopg.Cursor[Any]) -> None:
        """Have the server end this transaction when its client stands still in it for the length of a lease.

        The transaction holds the job's row locked: a client that was stopped or cut off would keep everybody else from the job.
        """
        milliseconds = str(int(self._leases.lease_seconds * 1000))
        cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [milliseconds])

    def _rest(self, seconds: float) -> None:
        self._interrupted.wait(seconds)

    def _transact(self, work: Callable[[psycopg.Cursor[Any]], None]) -> None:
        """Run `work` in a transaction; try again while the database is away, as long as the lease may be acted on."""

        def transact() -> None:
            with self._transactions.begin() as cursor:
                work(cursor)

        Retrying(
            before=lambda _state: self.checkpoint(),
            retry=retry_if_exception(_passes),
            wait=_pause,
            sleep=self._rest,
        )(transact)
