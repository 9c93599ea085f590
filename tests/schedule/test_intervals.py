"""Intervals tick at the same moments for everybody, whenever anybody starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.schedule.intervals import Interval, read_length, write_length
from jobqueue.schedule.schedule_rules import previous, ticks

moments = st.datetimes(datetime(2026, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(seconds=st.integers(1, 90_000), start=moments)
def test_ticks_are_a_period_apart_whatever_the_start(seconds: int, start: datetime) -> None:
    rule = Interval(seconds)
    found = list(ticks(rule, start, start + timedelta(seconds=3 * seconds)))
    assert len(found) == 3
    assert found[0] - start <= timedelta(seconds=seconds)
    assert all(tick.timestamp() % seconds == 0 for tick in found)
    assert previous(rule, start) == found[0] - timedelta(seconds=seconds)


def test_periods_of_a_day_tick_at_midnight() -> None:
    assert Interval(86_400).next(datetime(2026, 3, 1, 12, tzinfo=UTC)) == datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1440m", 86_400), ("1h30m", 5400), ("1d", 86_400)]
)
def test_lengths(text: str, seconds: int) -> None:
    assert read_length(text) == seconds
    assert read_length(write_length(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "15 m", "-1m", "1.5h", "15min"])
def test_malformed_lengths_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="length of time"):
        read_length(text)


@pytest.mark.parametrize("seconds", [0, -1, 10**10])
def test_impossible_periods_are_refused(seconds: int) -> None:
    with pytest.raises(ValueError, match="every must be"):
        Interval(seconds)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "Every second"), (900, "Every 15 minutes"), (3600, "Every hour"), (5400, "Every 90 minutes")],
)
def test_in_words(seconds: int, words: str) -> None:
    assert Interval(seconds).words == words
