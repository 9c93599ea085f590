"""Whether the process can make progress, and whether it is ready: named checks, each of which may say why not.

Liveness decides whether the process is killed, so its checks look at this process only: a restart mends no
database, and a process that drains must be left alone. Readiness may ask others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from jobqueue.observe.logging import get_logger

log = get_logger(__name__)

Check = Callable[[], str | None]
"""Gives None when all is well, else a short reason. Reasons are public: they hold no address and no secret."""

Note = Callable[[], list[str]]
"""Gives what is so of what it is about, at once: nothing is asked of others."""

CACHE_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Report:
    """What several checks said: for each its reason, None where all is well. `notes` say what is so and no fault."""

    checks: dict[str, str | None]
    notes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether all is well with every check."""
        return all(reason is None for reason in self.checks.values())


class Health:
    """Holds the checks of a process. Safe to ask from any thread, as often as one likes.

    An answer is kept for `cache_seconds`. A check that raises has failed, and so has one that takes longer than
    `timeout_seconds`, which does not start again before it has come back.
    """

    def __init__(self, *, cache_seconds: float = CACHE_SECONDS, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._cache_seconds = cache_seconds
        self._timeout_seconds = timeout_seconds
        self._liveness: list[_CheckRunner] = []
        self._readiness: list[_CheckRunner] = []
        self._notes: dict[str, Note] = {}

    def add_liveness(self, name: str, check: Check) -> None:
        """Have `/healthz` fail while `check` gives a reason."""
        self._liveness.append(_CheckRunner(name, check))

    def add_readiness(self, name: str, check: Check) -> None:
        """Have `/readyz` fail while `check` gives a reason."""
        self._readiness.append(_CheckRunner(name, check))

    def add_note(self, name: str, note: Note) -> None:
        """Have `/readyz` show what `note` gives, which fails nothing."""
        self._notes[name] = note

    def liveness(self) -> Report:
        """Tell whether the process can make progress. Blocks for `timeout_seconds` at most."""
        return self._report(self._liveness)

    def readiness(self) -> Report:
        """Tell whether the process is ready for work. Blocks for `timeout_seconds` at most."""
        notes = {name: found for name, note in self._notes.items() if (found := note())}
        return Report(self._report(self._readiness).checks, notes)

    def _report(self, runners: list[_CheckRunner]) -> Report:
        for runner in runners:
            runner.start(self._cache_seconds)
        return Report({runner.name: runner.result(self._timeout_seconds) for runner in runners})


def recent_beat(last_beat: Callable[[], float], within: float) -> Check:
    """Make a check that fails when `last_beat()`, a time of time.monotonic(), lies more than `within` seconds back."""

    def check() -> str | None:
        silence = time.monotonic() - last_beat()
        return f"no sign of progress for {silence:.0f} s, at most {within:g} s are normal" if silence > within else None

    return check


class _CheckRunner:
    """Runs one check, each time in a new thread, one at a time."""

    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self._check = check
        self._changed = threading.Condition()
        self._running = False
        self._started_at = 0.0
        self._finished_at: float | None = None
        self._reason: str | None = None
        self._reported: str | None = None

    def start(self, cache_seconds: float) -> None:
        """Begin a run, unless one is under way or the last answer is recent enough."""
        now = time.monotonic()
        with self._changed:
            if self._running or (self._finished_at is not None and now - self._finished_at < cache_seconds):
                return
            self._running, self._started_at = True, now
        # A daemon thread: a check that hangs in the network must not keep the process from exiting.
        threading.Thread(target=self._run, name=f"check-{self.name}", daemon=True).start()

    def result(self, timeout_seconds: float) -> str | None:
        """Wait for the run under way until it is `timeout_seconds` old, and return the reason that it gave."""
        with self._changed:
            left = self._started_at + timeout_seconds - time.monotonic()
            done = self._changed.wait_for(lambda: not self._running, timeout=max(0.0, left))
            reason = self._reason if done else f"no answer within {timeout_seconds:g} s"
            turned = (reason is None) is not (self._reported is None)
            self._reported = reason
        if turned and reason is not None:
            log.warning("health_check_failed", check=self.name, reason=reason)
        elif turned:
            log.info("health_check_recovered", check=self.name)
        return reason

    def _run(self) -> None:
        try:
            reason = self._check()
        except Exception as error:  # noqa: BLE001 - the boundary: whatever a check raises is its answer
            # Only the type is public: the message may name hosts and users.
            log.warning("health_check_raised", check=self.name, error=error)
            reason = f"the check raised {type(error).__name__}"
        with self._changed:
            self._running, self._finished_at, self._reason = False, time.monotonic(), reason
            self._changed.notify_all()
