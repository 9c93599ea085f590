"""The kernel's counts and times: the metrics of one queue, with their labels looked up once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobqueue.observe.metrics import Metrics


class Meter:
    """What the loops report about their queues. Safe to use from any thread."""

    def __init__(self, metrics: Metrics, queues: Iterable[str]) -> None:
        self.metrics = metrics
        for queue in queues:
            metrics.declare_queue(queue)
        self._started = {queue: metrics.jobs_started.labels(queue) for queue in queues}
        self._waits = {queue: metrics.job_wait_seconds.labels(queue) for queue in queues}
        self._durations = {queue: metrics.job_duration_seconds.labels(queue) for queue in queues}

    def started(self, queue: str, waits: list[float]) -> None:
        """Jobs were claimed; `waits` are the seconds for which each had been due."""
        self._started[queue].inc(len(waits))
        self._waits[queue].observe_all(waits)

    def ended(self, queue: str, seconds: list[float]) -> None:
        """Handlers ended, each after its `seconds`."""
        self._durations[queue].observe_all(seconds)

    def staged(self, queue: str, stages: Mapping[str, float]) -> None:
        """A handler spent these seconds in these stages."""
        for stage, spent in stages.items():
            self.metrics.job_stage_duration_seconds.labels(queue, stage).observe(spent)

    def finished(self, queue: str, outcome: str, count: int = 1) -> None:
        """Outcomes were recorded, or refused because the lease was lost (`lease_lost`)."""
        self.metrics.jobs_finished.labels(queue, outcome).inc(count)
        if outcome == "lease_lost":
            self.metrics.stale_outcomes.labels(queue).inc(count)

    def rescued(self, queue: str, count: int) -> None:
        self.metrics.leases_rescued.labels(queue).inc(count)

    def paused(self, queue: str, *, paused: bool) -> None:
        """The queue was seen paused, or not."""
        self.metrics.queue_paused.labels(queue).set(paused)

    def timed_out(self, queue: str) -> None:
        """A handler did not come back after the queue's timeout."""
        self.metrics.handlers_given_up.labels(queue).inc()

    def stuck(self, counts: Mapping[str, int]) -> None:
        for queue, count in counts.items():
            self.metrics.handlers_stuck.labels(queue).set(count)

    def in_flight(self, counts: Mapping[str, int]) -> None:
        for queue, count in counts.items():
            self.metrics.jobs_in_flight.labels(queue).set(count)

    def database_error(self, error: BaseException) -> None:
        """A statement or a connection failed."""
        match error:
            case errors.QueryCanceled() | errors.LockNotAvailable():
                kind = "timeout"
            case errors.DeadlockDetected() | errors.SerializationFailure():
                kind = "conflict"
            case errors.OperationalError() | errors.InterfaceError() | errors.ReadOnlySqlTransaction():
                kind = "connection"
            case _:
                kind = "other"
        self.metrics.database_errors.labels(kind).inc()
