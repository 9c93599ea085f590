"""One completer a process: records outcomes in batches, and keeps them while the database is away."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from jobqueue.kernel.database.link import LOST
from jobqueue.kernel.loop import Loop
from jobqueue.observe.logging import get_logger
from jobqueue.roles.missing_rights import explain_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.store import Store
    from jobqueue.kernel.job import JobId
    from jobqueue.kernel.leasing.leases import Leases
    from jobqueue.kernel.meter import Meter
    from jobqueue.kernel.running.outcome import Outcome, Verb

log = get_logger(__name__)

_LARGEST_BATCH = 1_000

# Seconds after which an outcome is sent again whose row somebody else had locked.
_DEFERRED_FOR = 2.0

# When the worker stops, what is left is sent every so many seconds, for so many seconds.
_LAST_EVERY = 0.1
_LAST_FOR = 5.0

# While more outcomes than this wait to be recorded, the claimer claims nothing: memory is bounded while the database is away.
MOST_UNRECORDED = 2_000

_REPORTED = {
    "complete": "completed",
    "retry": "retried",
    "fail": "failed",
    "cancel": "cancelled",
    "snooze": "released",
    "release": "released",
    "lost": "lease_lost",
}


def _less_of(text: str) -> str:
    """The text in a form that any database takes; the second time, and from then on, half of it."""
    plain = text.encode("ascii", "replace").decode().replace("\0", "?")
    return plain if plain != text else text[: len(text) // 2]


class _Deferred(NamedTuple):
    """An outcome that is sent again at `until`, in time.monotonic()."""

    until: float
    outcome: Outcome


class Completer(Loop):
    """Takes outcomes from the jobs' threads and writes them.

    `entered(queue)` is called when jobs became pending again, `recorded(queue)` when jobs ended in any way, `eased()` when fewer
    outcomes may be waiting than before.
    """

    name = "complete"

    def __init__(
        self,
        link: Link,
        meter: Meter,
        stores: dict[str, Store],
        leases: Leases,
        entered: Callable[[str], None],
        eased: Callable[[], None],
        recorded: Callable[[str], None] = lambda _queue: None,
    ) -> None:
        super().__init__(link, meter)
        self._stores = stores
        self._leases = leases
        self._entered = entered
        self._eased = eased
        self._told = recorded
        self._outcomes: deque[Outcome] = deque()
        self._batch: list[Outcome] = []
        self._deferred: list[_Deferred] = []
        self._answer_lost = False
        self._empty = threading.Condition()

    @property
    def unrecorded(self) -> int:
        return len(self._outcomes) + len(self._batch) + len(self._deferred)

    def submit(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        # To look first costs a tenth of waking, and is safe: the loop clears the flag before it looks for outcomes.
        if not self._wake.is_set():
            self.wake()

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted is recorded; returns whether it is."""
        self.wake()
        with self._empty:
            return self._empty.wait_for(lambda: self.unrecorded == 0, timeout)

    def turn(self) -> float:
        # What the last turn could not record is still in the batch and is sent again. A row that was recorded after all no
        # longer matches its token.
        take = self._outcomes.popleft
        for _ in range(min(_LARGEST_BATCH - len(self._batch), len(self._outcomes))):
            self._batch.append(take())
        if self._deferred:
            now = time.monotonic()
            self._batch += [deferred.outcome for deferred in self._deferred if deferred.until <= now]
            self._deferred = [deferred for deferred in self._deferred if deferred.until > now]
        try:
            self._record()
        finally:
            self._eased()
        self._answer_lost = False
        if self._outcomes:
            return 0.0
        with self._empty:
            self._empty.notify_all()
        return _DEFERRED_FOR if self._deferred else 60.0

    def lost(self) -> None:
        self._answer_lost = True

    def _record(self) -> None:
        groups: dict[tuple[str, Verb, bool], list[Outcome]] = {}
        for outcome in self._batch:
            groups.setdefault((outcome.job.queue, outcome.verb, outcome.recorded), []).append(outcome)
        left = list(groups.items())
        while left:
            (queue, verb, recorded), outcomes = left.pop(0)
            if recorded or verb == "lost":
                results: dict[JobId, str] = {outcome.job.id: _REPORTED[verb] for outcome in outcomes}
            else:
                results = self._recorded(self._stores[queue], verb, outcomes)
            ended = outcomes
            if self._deferred:
                waiting = {id(deferred.outcome) for deferred in self._deferred}
                ended = [outcome for outcome in outcomes if id(outcome) not in waiting]
            if verb in ("retry", "snooze", "release"):
                self._entered(queue)
            self._told(queue)
            self._leases.drop([outcome.job for outcome in ended])
            # This group must not be sent again when a later one loses the connection.
            self._batch = [outcome for _, unsent in left for outcome in unsent]
            self._report(queue, ended, results)

    def _recorded(self, store: Store, verb: Verb, outcomes: list[Outcome]) -> dict[JobId, str]:
        """Send a group; when the database refuses it (a host's trigger or constraint may), send one outcome at a time.

        An outcome that is refused alone becomes a failed attempt. When that is refused too, the job is left to its lease: one
        row that cannot be changed must not keep the others from being recorded. An outcome whose row somebody holds locked is
        sent again later, and its lease is renewed meanwhile.
        """
        try:
            return self._send(store, verb, outcomes)
        except psycopg.errors.LockNotAvailable:
            if len(outcomes) > 1:
                return {id_: result for one in outcomes for id_, result in self._recorded(store, verb, [one]).items()}
            log.warning(
                "outcome_waits", queue=outcomes[0].job.queue, job_id=str(outcomes[0].job.id), reason="row locked"
            )
            self._deferred.append(_Deferred(time.monotonic() + _DEFERRED_FOR, outcomes[0]))
            return {}
        except LOST:
            raise
        except psycopg.DataError as error:
            if len(outcomes) > 1:
                return {id_: result for one in outcomes for id_, result in self._recorded(store, verb, [one]).items()}
            if not outcomes[0].error:
                return self._refused(store, verb, outcomes[0], error)
            # The text does not fit the column, or the database's encoding: less of it does, or none.
            outcomes[0].error = _less_of(outcomes[0].error)
            return self._recorded(store, verb, outcomes)
        except psycopg.Error as error:
            if len(outcomes) > 1:
                return {id_: result for one in outcomes for id_, result in self._recorded(store, verb, [one]).items()}
            return self._refused(store, verb, outcomes[0], error)

    def _refused(self, store: Store, verb: Verb, outcome: Outcome, error: psycopg.Error) -> dict[JobId, str]:
        log.error("outcome_refused", queue=outcome.job.queue, job_id=str(outcome.job.id), outcome=verb, exc_info=error)
        if verb != "complete":
            return {}
        reason = error.diag.message_primary or str(error).strip()
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            reason = explain_refusal(error, self.link.fetch)
        outcome.verb, outcome.error = "retry", f"the database refused to record the job's completion: {reason}"
        return self._recorded(store, "retry", [outcome])

    def _send(self, store: Store, verb: Verb, outcomes: list[Outcome]) -> dict[JobId, str]:
        jobs = [outcome.job for outcome in outcomes]
        errors = [outcome.error or "" for outcome in outcomes]
        delays = [outcome.delay for outcome in outcomes]
        stages = [outcome.stages for outcome in outcomes]
        match verb:
            case "retry":
                return {
                    id_: "failed" if failed else "retried"
                    for id_, failed in store.retry(self.link, jobs, delays, errors, stages).items()
                }
            case "fail":
                recorded = store.fail(self.link, jobs, errors, stages)
            case "cancel":
                recorded = store.cancel(self.link, jobs, errors, stages)
            case "snooze":
                recorded = store.snooze(self.link, jobs, delays, errors)
            case "release":
                recorded = store.release(self.link, jobs)
            case _:
                recorded = store.complete(self.link, jobs, stages)
        if self._answer_lost and len(recorded) < len(jobs):
            # The lost answer may have been a yes. (A job that is pending again has no token left to tell by.)
            recorded |= store.find_recorded(self.link, [job for job in jobs if job.id not in recorded])
        return dict.fromkeys(recorded, _REPORTED[verb])

    def _report(self, queue: str, outcomes: list[Outcome], results: dict[JobId, str]) -> None:
        counts: dict[str, int] = {}
        speaks = log.is_enabled("info")
        self.meter.ended(queue, [outcome.seconds for outcome in outcomes])
        for outcome in outcomes:
            job = outcome.job
            result = results.get(job.id, "lease_lost")
            counts[result] = counts.get(result, 0) + 1
            if outcome.stages:
                self.meter.staged(queue, outcome.stages)
            if speaks:
                log.info(
                    "job_finished",
                    queue=queue,
                    job_id=str(job.id),
                    attempt=job.attempt,
                    outcome=result,
                    duration_ms=round(outcome.seconds * 1000, 1),
                    stages={name: round(seconds * 1000, 1) for name, seconds in outcome.stages.items()},
                    **({"error": outcome.error} if outcome.error else {}),
                )
        for result, count in counts.items():
            self.meter.finished(queue, result, count)

    def last(self) -> None:
        """Record what is left, for as long as the drain leaves time; what cannot be recorded is left to the leases."""

        def unrecorded() -> int:
            if self.unrecorded:
                try:
                    self.turn()
                except LOST as error:
                    log.warning("outcomes_unrecorded", count=self.unrecorded, error=str(error).strip())
            return self.unrecorded

        Retrying(
            retry=retry_if_result(bool),
            wait=wait_fixed(_LAST_EVERY),
            stop=stop_after_delay(_LAST_FOR),
            retry_error_callback=lambda _state: None,
        )(unrecorded)
