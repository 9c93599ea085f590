"""Names that changed in this version: the log and /metrics give the old one beside the new one until the next version.

A change that renames an event, a loop or a metric adds a line here; the next version takes it out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EVENTS: Final = {
    "artifact_ready": "archive_ready",
    "artifact_source_changed": "archive_source_changed",
    "maintenance_call_auth_failed": "events_call_auth_failed",
    "maintenance_call_failed": "events_call_failed",
    "maintenance_called": "events_called",
    "target_breaker_opened": "breaker_opened",
    "webhook_records_left": "webhook_attempts_left",
}
"""Log events, new name to old: a JSON line carries the old one as `former_event`."""

LOOPS: Final = {"rescue": "keep"}
"""Loops of a worker, new name to old: a JSON line with the field `loop` carries the old one as `former_loop`."""

METRICS: Final = {
    "jobqueue_artifact_bytes": "jobqueue_archive_bytes",
    "jobqueue_artifact_files": "jobqueue_archive_files",
    "jobqueue_artifacts_reused": "jobqueue_archives_reused",
}
"""Families of metrics, new name to old, without `_total` and its like."""


class WithFormerNames(Collector):
    """Gives what another collector gives, and each renamed family once more under its old name, with the same values."""

    def __init__(self, collector: Collector, former: Mapping[str, str] = METRICS) -> None:
        """Read `collector`; `former` names the families as METRICS does."""
        self._collector = collector
        self._former = former

    def collect(self) -> Iterator[Metric]:
        """Give every family; the old name directly follows the new one."""
        for family in self._collector.collect():
            yield family
            if family.name in self._former:
                yield _under(self._former[family.name], family)


def _under(old: str, family: Metric) -> Metric:
    text = f"Is called {family.name} now; this name goes with the next version"
    copy = Metric(old, text, family.type, family.unit)
    copy.samples = [sample._replace(name=old + sample.name.removeprefix(family.name)) for sample in family.samples]
    return copy
