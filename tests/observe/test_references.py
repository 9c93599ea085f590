"""The references of metrics and of log events have all that the code has."""

from __future__ import annotations

import ast

from tests.observe.event_reference import PAGE, events, page
from tests.structure.helpers import ROOT, modules

METRICS = ("Counter", "Gauge", "Histogram", "Info", "_counter", "_gauge", "_histogram")


def metric_names() -> set[str]:
    """Every metric of src/, as a page of metrics begins its name after `jobqueue_`."""
    found = set()
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).rpartition(".")[2] in METRICS:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.add(first.value.removeprefix("jobqueue_"))
    return found


def test_every_event_is_in_the_reference() -> None:
    """Mend it by `python -m tests.observe.event_reference`."""
    assert {"job_finished", "handler_raised", "artifact_worker_cron_auth_failed"} <= events().keys()
    assert PAGE.read_text() == page()


def test_every_metric_is_in_the_reference() -> None:
    text = (ROOT / "docs/reference/metrics-and-logs.md").read_text()
    names = metric_names()

    assert {"jobs_started", "retention_rows", "build"} <= names
    assert sorted(
        name for name in names if not any(f"`{name}{ending}`" in text for ending in ("", "_total", "_info"))
    ) == []  # fmt: skip
