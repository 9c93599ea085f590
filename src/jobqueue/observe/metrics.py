"""Metrics: what the process counts and times, as Prometheus reads it.

Every name begins with `jobqueue_`; units are seconds and bytes; labels come from closed sets (queue, outcome, state, stage, kind,
schedule) and never hold an id or a key. Gauges that describe the database, `queue_depth` and `queue_oldest_due_seconds`, are the
same in every process that reports them: aggregate them with max, not with sum.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from jobqueue.observe.former_names import WithFormerNames
from jobqueue.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OUTCOMES: Final = ("completed", "retried", "failed", "cancelled", "released", "lease_lost")
"""How a started job can end for the worker that started it; a `released` one is given back and not charged an attempt."""

DATABASE_ERRORS: Final = ("connection", "timeout", "conflict", "other")
"""Kinds of database error: no connection or a lost one, a time limit, a deadlock or serialization failure, anything else."""

_WAITS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_RUNS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class BatchHistogram(Histogram):
    """A histogram that takes many observations at little more than the cost of one."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe each of `amounts`."""
        bounds = self._upper_bounds
        counts: dict[int, int] = {}
        for amount in amounts:
            bucket = bisect_left(bounds, amount)
            counts[bucket] = counts.get(bucket, 0) + 1
        self._sum.inc(sum(amounts))
        for bucket, count in counts.items():
            self._buckets[bucket].inc(count)


class Metrics:
    """All metrics of one process, in a registry of their own. Safe to use from any thread."""

    def __init__(self, build: Mapping[str, str] | None = None) -> None:
        """Create every metric; `build` adds labels to `build_info`, such as the version of libvips."""
        # Without this every counter has a second series that holds the time of its creation, which nobody here reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._states: dict[str, set[str]] = {}

        self.jobs_started = self._counter("jobs_started", "Jobs whose handler was started", "queue")
        self.jobs_finished = self._counter("jobs_finished", "Attempts that ended, by outcome", "queue", "outcome")
        self.jobs_in_flight = self._gauge("jobs_in_flight", "Jobs whose handler is running", "queue")
        self.job_wait_seconds = self._histogram("job_wait_seconds", "From due to started", _WAITS, "queue")
        self.job_duration_seconds = self._histogram("job_duration_seconds", "One attempt", _RUNS, "queue")
        self.job_stage_duration_seconds = self._histogram(
            "job_stage_duration_seconds", "One stage of an attempt", _RUNS, "queue", "stage"
        )

        self.queue_depth = self._gauge(
            "queue_depth", "Rows of a queue by state, as of the last snapshot", "queue", "state"
        )
        self.queue_due = self._gauge("queue_due", "Pending jobs that could run now, as of the last snapshot", "queue")
        self.queue_oldest_due_seconds = self._gauge(
            "queue_oldest_due_seconds", "How long the oldest due job has been waiting", "queue"
        )
        self.queue_snapshot_timestamp_seconds = self._gauge(
            "queue_snapshot_timestamp_seconds", "When the queue was last counted", "queue"
        )

        self.queue_paused = self._gauge("queue_paused", "1 while nobody may claim from the queue", "queue")

        self.handlers_stuck = self._gauge(
            "handlers_stuck", "Handlers that were given up after their queue's timeout and still run", "queue"
        )
        self.handlers_given_up = self._counter(
            "handlers_given_up", "Handlers that did not come back after their queue's timeout", "queue"
        )
        self.leases_rescued = self._counter("leases_rescued", "Jobs taken back from workers that died", "queue")
        self.stale_outcomes = self._counter(
            "stale_outcomes", "Outcomes refused because the lease had gone to somebody else", "queue"
        )
        self.heartbeat_delay_seconds = self._gauge("heartbeat_delay_seconds", "How late the last renewal of leases was")
        self.listener_up = self._gauge("listener_up", "1 while wake-ups are listened for; 0 means polling alone")
        self.worker_concurrency = self._gauge("worker_concurrency", "Jobs this process may run at once")
        self.worker_draining = self._gauge("worker_draining", "1 while the process finishes its jobs in order to stop")
        self.memory_budget_bytes = self._gauge("memory_budget_bytes", "Bytes that pictures in work may hold together")
        self.memory_budget_used_bytes = self._gauge("memory_budget_used_bytes", "Bytes reserved by pictures in work")
        self.database_errors = self._counter("database_errors", "Statements and connections that failed", "kind")

        self.loop_failing_seconds = self._gauge(
            "loop_failing_seconds",
            "For how long every turn of a background loop has failed, 0 once one did not",
            "loop",
        )

        self.bytes_downloaded = self._counter("bytes_downloaded", "Bytes read from the origin")
        self.bytes_uploaded = self._counter("bytes_uploaded", "Bytes written to the object store")
        self.webhook_deliveries = self._counter("webhook_deliveries", "Attempts to deliver a webhook", "outcome")
        self.schedule_ticks = self._counter("schedule_ticks", "Ticks of schedules", "schedule", "outcome")
        self.schedule_last_success_timestamp_seconds = self._gauge(
            "schedule_last_success_timestamp_seconds", "When a schedule last ran well", "schedule"
        )

        self.http_auth_failures = self._counter(
            "http_auth_failures",
            "Calls with a missing or wrong secret, or from an address that may not call",
            "endpoint",
        )

        self.build_info = Info("jobqueue_build", "What is running", registry=self.registry)
        self.build_info.info({"version": __version__, "python": platform.python_version(), **(build or {})})
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        for kind in DATABASE_ERRORS:
            self.database_errors.labels(kind)

    def declare_queue(self, queue: str, stages: Iterable[str] = ()) -> None:
        """Create every series of `queue` at 0, so that `rate()` sees the first increase.

        The gauges of the database snapshot stay absent until there has been one: a 0 would say that the queue is empty.
        """
        for metric in (
            self.jobs_started,
            self.jobs_in_flight,
            self.job_wait_seconds,
            self.job_duration_seconds,
            self.leases_rescued,
            self.stale_outcomes,
        ):
            metric.labels(queue)
        for outcome in OUTCOMES:
            self.jobs_finished.labels(queue, outcome)
        for stage in stages:
            self.job_stage_duration_seconds.labels(queue, stage)

    def set_queue(self, queue: str, depth: Mapping[str, int], oldest_due_seconds: float) -> None:
        """Record a snapshot of `queue`: rows by state, and how long its oldest due job has waited in seconds, 0 for none."""
        # A GROUP BY leaves out a state that no row is in any more: it is 0.
        self._states.setdefault(queue, set()).update(depth)
        for state in self._states[queue]:
            self.queue_depth.labels(queue, state).set(depth.get(state, 0))
        self.queue_oldest_due_seconds.labels(queue).set(oldest_due_seconds)
        self.queue_snapshot_timestamp_seconds.labels(queue).set_to_current_time()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Make the page: its bytes, and its content type. OpenMetrics if the header `Accept` asks for it, else Prometheus text."""
        encode, content_type = choose_encoder(accept)
        return encode(WithFormerNames(self.registry)), content_type

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"jobqueue_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"jobqueue_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> BatchHistogram:
        return BatchHistogram(f"jobqueue_{name}", text, labels, buckets=buckets, registry=self.registry)
