from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from jobqueue.artifacts.artifact_progress import ArtifactMetrics
from jobqueue.observe.former_names import EVENTS, LOOPS, METRICS, WithFormerNames
from jobqueue.observe.metrics import Metrics


def test_a_renamed_family_is_exposed_under_both_names_with_the_same_values() -> None:
    metrics = Metrics()
    artifacts = ArtifactMetrics(metrics)
    artifacts.bytes.inc(7)
    artifacts.files.labels("missing").inc(2)
    families = {family.name: family for family in text_string_to_metric_families(metrics.render()[0].decode())}
    for new, old in METRICS.items():
        assert families[old].type == families[new].type == "counter"
        assert [(each.name, each.labels, each.value) for each in families[old].samples] == [
            (each.name.replace(new, old), each.labels, each.value) for each in families[new].samples
        ]
        assert f"called {new} now" in families[old].documentation
        assert "goes with the next version" in families[old].documentation
    assert [each.value for each in families["jobqueue_archive_bytes"].samples] == [7]


def test_openmetrics_has_both_names_too() -> None:
    metrics = Metrics()
    ArtifactMetrics(metrics).reused.inc()
    page = metrics.render("application/openmetrics-text; version=1.0.0")[0].decode().splitlines()
    assert {"jobqueue_artifacts_reused_total 1.0", "jobqueue_archives_reused_total 1.0"} <= set(page)


def test_every_sample_of_a_histogram_is_renamed() -> None:
    registry = CollectorRegistry()
    Histogram("new_seconds", "One", buckets=(1,), registry=registry).observe(0.5)
    Counter("kept", "Another", registry=registry)
    _, former, *_ = families = list(WithFormerNames(registry, {"new_seconds": "old_seconds"}).collect())
    assert [family.name for family in families] == ["new_seconds", "old_seconds", "kept"]
    assert {sample.name for sample in former.samples} >= {"old_seconds_bucket", "old_seconds_count", "old_seconds_sum"}


def test_no_name_is_new_and_old() -> None:
    for names in (EVENTS, LOOPS, METRICS):
        assert not set(names) & set(names.values())
        assert len(set(names.values())) == len(names)
