from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.support.waiting import Stopwatch, eventually

from jobqueue.web.health import Health, recent_beat

if TYPE_CHECKING:
    import pytest


def test_no_reason_is_good_health() -> None:
    health = Health()
    health.add_liveness("loops", lambda: None)
    report = health.liveness()
    assert report.ok
    assert report.checks == {"loops": None}
    assert health.readiness().ok


def test_every_failing_check_is_named() -> None:
    health = Health()
    health.add_readiness("database", lambda: "does not answer")
    health.add_readiness("migrations", lambda: None)
    health.add_readiness("draining", lambda: "the worker is draining")
    report = health.readiness()
    assert not report.ok
    assert report.checks == {"database": "does not answer", "migrations": None, "draining": "the worker is draining"}
    assert health.liveness().ok


def test_a_check_that_raises_has_failed_and_its_message_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def check() -> str | None:
        raise ConnectionError("host db.internal refused user worker")

    health = Health()
    health.add_readiness("database", check)
    assert health.readiness().checks == {"database": "the check raised ConnectionError"}
    assert "health_check_raised" in caplog.messages


def test_a_check_that_hangs_has_failed_and_is_not_piled_up() -> None:
    release, calls = threading.Event(), []

    def check() -> str | None:
        calls.append(1)
        release.wait()
        return None

    health = Health(cache_seconds=0.0, timeout_seconds=0.5)
    health.add_readiness("database", check)
    health.add_readiness("migrations", lambda: None)
    assert health.readiness().checks == {"database": "no answer within 0.5 s", "migrations": None}
    with Stopwatch() as idle:
        assert not health.readiness().ok
    assert idle.seconds < 0.4, "the second question waits no more for the same hanging run"
    assert calls == [1]
    release.set()
    assert eventually(lambda: health.readiness().ok)


def test_checks_run_side_by_side() -> None:
    together = threading.Barrier(3)
    health = Health()
    for name in "abc":
        health.add_readiness(name, lambda: None if together.wait(5) >= 0 else "alone")
    assert health.readiness().ok


def test_answers_are_kept_for_a_while() -> None:
    calls: list[int] = []
    kept, fresh = Health(cache_seconds=60), Health(cache_seconds=0)
    for health in (kept, fresh):
        health.add_liveness("count", lambda: calls.append(1))
    assert kept.liveness().ok
    assert kept.liveness().ok
    assert len(calls) == 1
    assert fresh.liveness().ok
    assert fresh.liveness().ok
    assert len(calls) == 3


def test_askers_at_one_time_share_one_run() -> None:
    release, calls, reports = threading.Event(), [], []

    def check() -> str | None:
        calls.append(1)
        release.wait(5)
        return None

    health = Health()
    health.add_readiness("database", check)
    askers = [threading.Thread(target=lambda: reports.append(health.readiness())) for _ in range(8)]
    for asker in askers:
        asker.start()
    release.set()
    for asker in askers:
        asker.join()
    assert len(calls) == 1
    assert all(report.ok for report in reports)
    assert len(reports) == 8


def test_only_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    reasons = iter(["gone", "gone", None, None])
    health = Health(cache_seconds=0)
    health.add_readiness("database", lambda: next(reasons))
    for _ in range(4):
        health.readiness()
    assert caplog.messages == ["health_check_failed", "health_check_recovered"]


def test_a_loop_that_has_gone_quiet_is_noticed() -> None:
    now = time.monotonic()
    assert recent_beat(lambda: now, within=60)() is None
    reason = recent_beat(lambda: now - 75, within=60)()
    assert reason is not None
    assert reason.startswith("no sign of progress for 75 s")
