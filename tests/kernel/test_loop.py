"""A loop tells the truth about itself: when it gets on, when it fails at every turn, and when the database is back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors
from tests.support.waiting import eventually

from jobqueue.backoff import Reconnect
from jobqueue.kernel import loop as loops
from jobqueue.kernel.database.link import Link
from jobqueue.kernel.loop import Loop, find_failing
from jobqueue.kernel.meter import Meter
from jobqueue.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.helpers import Rig


class Turning(Loop):
    """Each turn raises `error`, where there is one; without it a turn asks the server something only when `asks`."""

    name = "turning"

    def __init__(self, rig: Rig) -> None:
        self.metrics = Metrics()
        super().__init__(Link(rig.dsn, "turning"), Meter(self.metrics, []))
        self.error: Exception | None = None
        self.asks = True
        self.turns = 0

    def turn(self) -> float:
        self.turns += 1
        if self.error is not None:
            raise self.error
        if self.asks:
            self.link.fetch(b"SELECT 1")
        return 0.01

    def see_turns(self, number: int = 3) -> None:
        """Wait until it has turned so many times more."""
        seen = self.turns
        eventually(lambda: self.turns >= seen + number)


@pytest.fixture
def turning(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turning]:
    monkeypatch.setattr(loops, "_FAILING", 0.2)
    monkeypatch.setattr(Reconnect, "next", lambda _: 0.01)
    turning = Turning(rig)
    turning.start()
    yield turning
    turning.stop()
    assert turning.join(5.0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.DatetimeFieldOverflow("a canary"), "DatetimeFieldOverflow (22008)"),
        (errors.QueryCanceled("a canary"), "QueryCanceled (57014)"),
        (KeyError("a canary"), "KeyError"),
    ],
)
def test_one_that_fails_at_every_turn_says_so_until_it_gets_on(turning: Turning, error: Exception, said: str) -> None:
    turning.see_turns()
    assert find_failing([turning]) is None
    turning.error = error
    reason = eventually(lambda: find_failing([turning])) or ""
    assert reason.startswith("the turning loop has failed at every turn for ")
    assert reason.endswith(f": {said}")
    gauge = "jobqueue_loop_failing_seconds"
    assert (turning.metrics.registry.get_sample_value(gauge, {"loop": "turning"}) or 0.0) >= 0.2
    turning.error = None
    eventually(lambda: find_failing([turning]) is None)
    assert turning.metrics.registry.get_sample_value(gauge, {"loop": "turning"}) == 0


def test_the_database_s_absence_is_no_failure(turning: Turning) -> None:
    turning.error = psycopg.OperationalError("the connection is lost")
    until = time.monotonic() + 0.3
    eventually(lambda: time.monotonic() > until and turning.turns > 5)
    assert find_failing([turning]) is None


def test_the_database_is_back_once_it_has_answered(turning: Turning, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    turning.see_turns()
    turning.error, turning.asks = psycopg.OperationalError("the connection is lost"), False
    turning.see_turns()
    turning.error = None
    turning.see_turns()
    assert "database_away" in caplog.text
    assert "database_back" not in caplog.text
    turning.asks = True
    turning.see_turns()
    assert caplog.text.count("database_back") == 1
