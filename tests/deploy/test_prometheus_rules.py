"""The alerts that are shipped: they name metrics that there are, and fire for what they are for."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from tests.observe.test_references import metric_names
from tests.structure.helpers import ROOT

from jobqueue.observe.metrics import Metrics

FOLDER = ROOT / "deploy/prometheus"


def promtool(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return subprocess.run(["promtool", *arguments], cwd=FOLDER, input=given, capture_output=True, check=False)


def test_every_metric_of_a_rule_is_there() -> None:
    named = set(re.findall(r"\bjobqueue_(\w+)", (FOLDER / "rules.yml").read_text()))
    known = {f"{name}{ending}" for name in metric_names() for ending in ("", "_total", "_info", "_bucket", "_count")}

    assert len(named) > 10
    assert named - known == set()


def test_every_alert_is_fired_by_a_test_and_says_what_to_do() -> None:
    rules = (FOLDER / "rules.yml").read_text()
    alerts = re.findall(r"alert: (\w+)", rules)
    fired = set(re.findall(r'alertname="(\w+)"', (FOLDER / "rules.test.yml").read_text()))

    assert fired == set(alerts)
    assert rules.count("          do: ") == len(alerts)


@pytest.mark.servers
def test_each_alert_fires_for_its_fault_and_none_while_all_is_well() -> None:
    done = promtool("test", "rules", "rules.test.yml")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.servers
def test_a_page_of_metrics_is_as_prometheus_wants_it() -> None:
    metrics = Metrics()
    metrics.declare_queue("jobs", ["decode"])
    metrics.set_queue("jobs", {"pending": 1}, 2.0)
    page, _ = metrics.render()
    done = promtool("check", "metrics", given=page)

    assert done.returncode == 0, done.stderr
