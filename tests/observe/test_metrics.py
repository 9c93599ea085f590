from __future__ import annotations

import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobqueue import __version__
from jobqueue.observe.metrics import DATABASE_ERRORS, OUTCOMES, Metrics

CONTRACT = {
    "jobqueue_jobs_started_total": {"queue"},
    "jobqueue_jobs_finished_total": {"queue", "outcome"},
    "jobqueue_job_duration_seconds_bucket": {"queue", "le"},
    "jobqueue_job_stage_duration_seconds_bucket": {"queue", "stage", "le"},
    "jobqueue_job_wait_seconds_bucket": {"queue", "le"},
    "jobqueue_queue_depth": {"queue", "state"},
    "jobqueue_queue_oldest_due_seconds": {"queue"},
    "jobqueue_jobs_in_flight": {"queue"},
    "jobqueue_worker_concurrency": set(),
    "jobqueue_leases_rescued_total": {"queue"},
    "jobqueue_bytes_downloaded_total": set(),
    "jobqueue_bytes_uploaded_total": set(),
    "jobqueue_webhook_deliveries_total": {"outcome"},
    "jobqueue_schedule_ticks_total": {"schedule", "outcome"},
    "jobqueue_schedule_last_success_timestamp_seconds": {"schedule"},
    "jobqueue_database_errors_total": {"kind"},
}


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    page = metrics.render()[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"jobqueue_{name}", frozenset(labels.items())))


def used() -> Metrics:
    metrics = Metrics()
    metrics.declare_queue("q", ["decode"])
    metrics.set_queue("q", {"pending": 3}, 1.5)
    metrics.webhook_deliveries.labels("delivered").inc()
    metrics.schedule_ticks.labels("heartbeat", "ok").inc()
    metrics.schedule_last_success_timestamp_seconds.labels("heartbeat").set_to_current_time()
    return metrics


@pytest.mark.parametrize(("name", "labels"), CONTRACT.items())
def test_the_contracts_metrics_have_its_names_and_labels(name: str, labels: set[str]) -> None:
    found = [{key for key, _ in sample_labels} for sample_name, sample_labels in samples(used()) if sample_name == name]
    assert found
    assert all(each == labels for each in found)


def test_every_name_has_the_prefix_or_is_the_process_own() -> None:
    names = {name for name, _ in samples(used())}
    assert all(re.match("jobqueue_|process_|python_", name) for name in names)
    assert not any(name.endswith("_created") for name in names)
    assert "process_resident_memory_bytes" in names


def test_a_declared_queue_starts_at_zero_in_every_outcome() -> None:
    metrics = Metrics()
    metrics.declare_queue("q", ["download"])
    for outcome in OUTCOMES:
        assert value(metrics, "jobs_finished_total", queue="q", outcome=outcome) == 0
    for kind in DATABASE_ERRORS:
        assert value(metrics, "database_errors_total", kind=kind) == 0
    for name in ("jobs_started_total", "jobs_in_flight", "leases_rescued_total", "stale_outcomes_total"):
        assert value(metrics, name, queue="q") == 0
    assert value(metrics, "job_wait_seconds_count", queue="q") == 0
    assert value(metrics, "job_stage_duration_seconds_count", queue="q", stage="download") == 0


def test_a_queue_nobody_has_counted_has_no_depth() -> None:
    metrics = Metrics()
    metrics.declare_queue("q")
    assert not [name for name, _ in samples(metrics) if name == "jobqueue_queue_depth"]


def test_a_snapshot_replaces_the_one_before() -> None:
    metrics = Metrics()
    metrics.set_queue("q", {"pending": 3, "failed": 1}, 12.5)
    metrics.set_queue("other", {"pending": 7}, 0)
    metrics.set_queue("q", {"pending": 2}, 0)
    assert value(metrics, "queue_depth", queue="q", state="pending") == 2
    assert value(metrics, "queue_depth", queue="q", state="failed") == 0
    assert value(metrics, "queue_depth", queue="other", state="pending") == 7
    assert value(metrics, "queue_depth", queue="other", state="failed") is None
    assert value(metrics, "queue_oldest_due_seconds", queue="q") == 0
    counted = value(metrics, "queue_snapshot_timestamp_seconds", queue="q")
    assert counted is not None
    assert abs(counted - time.time()) < 60


def test_waits_are_told_apart_below_the_promised_fifty_milliseconds() -> None:
    metrics = Metrics()
    metrics.job_wait_seconds.labels("q").observe(0.03)
    assert value(metrics, "job_wait_seconds_bucket", queue="q", le="0.025") == 0
    assert value(metrics, "job_wait_seconds_bucket", queue="q", le="0.05") == 1


def test_observations_by_the_batch_are_those_one_by_one() -> None:
    # Binary fractions, some of them bounds of buckets: their sum is exact, however it is added up.
    amounts = [0.0, 0.0078125, 0.25, 0.2578125, 60.0, 3600.0, 1024.0, 0.25]
    one, batch = Metrics(), Metrics()
    for amount in amounts:
        one.job_wait_seconds.labels("q").observe(amount)
    batch.job_wait_seconds.labels("q").observe_all(amounts)
    batch.job_wait_seconds.labels("q").observe_all([])

    def series(metrics: Metrics) -> list[str]:
        return [line for line in metrics.render()[0].decode().splitlines() if line.startswith("jobqueue_job_wait")]

    assert series(one) == series(batch)


def test_build_info() -> None:
    page = Metrics({"libvips": "8.18.0"}).render()[0].decode()
    (line,) = re.findall(r"^jobqueue_build_info\{.*", page, re.MULTILINE)
    assert f'version="{__version__}"' in line
    assert 'libvips="8.18.0"' in line
    assert line.endswith(" 1.0")


def test_the_page_comes_in_the_form_that_is_asked_for() -> None:
    metrics = Metrics()
    assert metrics.render()[1].startswith("text/plain; version=0.0.4")
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_two_in_one_process_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.bytes_downloaded.inc(10)
    assert value(first, "bytes_downloaded_total") == 10
    assert value(second, "bytes_downloaded_total") == 0
