"""The shape of every background loop: a thread that repeats a turn, survives the database's absence, and shows its progress."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import errors

from jobqueue.backoff import Reconnect
from jobqueue.database_absence import refusal
from jobqueue.kernel.database.link import LOST, Link
from jobqueue.observe.logging import get_logger
from jobqueue.roles.missing_rights import explain_refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.kernel.meter import Meter

log = get_logger(__name__)

# A loop that has begun no turn for this many seconds is stuck, whatever it waits for.
_STUCK = 120.0

# A loop whose every turn has failed for this many seconds makes no progress, though it turns.
_FAILING = 60.0

# The server is there and gave the statement up: such a turn has failed, and the database is not away.
_GIVEN_UP = (errors.QueryCanceled, errors.LockNotAvailable, errors.DeadlockDetected)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Turns that failed one after the other: when the first and the last did, in time.monotonic(), and the last one's error."""

    since: float
    until: float
    error: BaseException

    @property
    def reason(self) -> str:
        """The error for everybody's eyes: its message may hold what is in a row, and is in the log."""
        state = getattr(self.error, "sqlstate", None)
        return type(self.error).__name__ + (f" ({state})" if state else "")


class Loop:
    """Repeats `turn()` in a thread of its own until stopped; `turn` returns the seconds to rest before the next one.

    `wake()` ends the rest early. When the database goes away the loop reports it, calls `lost()`, waits with growing delays
    and tries again, forever: a loop ends only when it is stopped.
    """

    name = "loop"

    def __init__(self, link: Link, meter: Meter) -> None:
        self.link = link
        self.meter = meter
        self.beaten_at = time.monotonic()
        self.resting = 0.0
        self.failure: _Failure | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"jobqueue-{self.name}", daemon=True)

    def turn(self) -> float:
        """Do what there is to do; returns the seconds to rest. May raise anything: the loop survives it."""
        raise NotImplementedError

    def lost(self) -> None:
        """Called when the connection was lost, before the next turn."""

    def last(self) -> None:
        """Called once, in the loop's own thread, after it was stopped."""

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def rest(self, seconds: float) -> None:
        """Do nothing for so long, or until woken. May raise as `turn` does."""
        self._wake.wait(seconds)

    def stop(self) -> None:
        """Ask the loop to end; `join` waits for it."""
        self._stopping.set()
        self.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the loop to end; returns whether it has."""
        if self._thread.ident is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def _run(self) -> None:
        reconnect = Reconnect()
        away_since: float | None = None
        answered, refused = 0, False
        while not self.stopping:
            self.beaten_at = time.monotonic()
            try:
                seconds = self.turn()
                self._progressed()
                if away_since is not None and self.link.answered != answered:
                    # A turn that asked the server nothing says nothing about it.
                    log.info("database_back", loop=self.name, away_ms=round((time.monotonic() - away_since) * 1000))
                    away_since = None
                reconnect.reset()
                if seconds > 0:
                    self.resting = seconds
                    self.rest(seconds)
                if self._wake.is_set():
                    self._wake.clear()
            except LOST as error:
                self.meter.database_error(error)
                if isinstance(error, _GIVEN_UP):
                    self._failed(error)
                else:
                    self._progressed()
                answered = self.link.answered
                # That it refuses us is said as well, once: that will not mend by itself.
                if away_since is None or (refusal(error) is not None and not refused):
                    away_since = time.monotonic() if away_since is None else away_since
                    refused = refusal(error) is not None
                    log.warning("database_away", loop=self.name, error=str(error).strip())
                self.lost()
                self._stopping.wait(reconnect.next())
            except Exception as error:
                self.meter.database_error(error)
                self._failed(error)
                log.exception("loop_failed", loop=self.name, error=self._explained(error))
                # The connection itself may be wrong: a prepared statement outlived a change of its table, say.
                self.link.close()
                self._stopping.wait(reconnect.next())
            self.resting = 0.0
        try:
            self.last()
        finally:
            self.link.close()

    def _explained(self, error: Exception) -> str:
        if isinstance(error, errors.InsufficientPrivilege):
            return explain_refusal(error, self.link.fetch)
        return str(error).strip()

    def _failed(self, error: BaseException) -> None:
        now = time.monotonic()
        self.failure = _Failure(now if self.failure is None else self.failure.since, now, error)
        self.meter.metrics.loop_failing_seconds.labels(self.name).set(now - self.failure.since)

    def _progressed(self) -> None:
        """The last turn did not fail. Where the database was away, nobody can say that it would have."""
        if self.failure is not None:
            self.failure = None
            self.meter.metrics.loop_failing_seconds.labels(self.name).set(0)


def find_failing(loops: Iterable[Loop]) -> str | None:
    """Which of `loops` has failed at every turn for a minute, and its error. None when each gets on, or waits for the database."""
    for loop in loops:
        failure = loop.failure
        # One that is in a long turn has not failed at it.
        if failure is not None and not loop.stopping and failure.until - failure.since >= _FAILING:
            seconds = failure.until - failure.since
            return f"the {loop.name} loop has failed at every turn for {seconds:.0f} s: {failure.reason}"
    return None


def find_stuck(loops: Iterable[Loop]) -> str | None:
    """Why one of `loops` makes no progress: it has ended, or hangs in a turn. None when each makes progress or was stopped."""
    now = time.monotonic()
    for loop in loops:
        if not loop.stopping and not loop.is_alive:
            return f"the {loop.name} loop has ended"
        if not loop.stopping and now - loop.beaten_at > _STUCK + loop.resting:
            return f"the {loop.name} loop has not turned for {now - loop.beaten_at:.0f} s"
    return None
