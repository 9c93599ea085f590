"""Rates: how they are written, and what they allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.errors import ConfigurationError
from jobqueue.kernel import Rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10/s", Rate(10)), (" 600 / m ", Rate(600, 60.0)), ("5/h", Rate(5, 3600.0)), ("100/d", Rate(100, 86_400.0))],
)
def test_a_rate_is_read_as_people_write_it(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize("text", ["", "10", "10/", "/s", "10/w", "-1/s", "1.5/s", "10/s/s", "\u0661/s", None, 10])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is none: write it as"):
        Rate.parse(text)


@pytest.mark.parametrize("rate", [(0, 1.0), (-1, 1.0), (1, 0.0), (1, float("nan"))])
def test_a_rate_lets_some_job_start(rate: tuple[int, float]) -> None:
    with pytest.raises(ConfigurationError, match="lets no job start"):
        Rate(*rate)


@pytest.mark.parametrize("rate", [(1_000_001, 1.0), (1, 31 * 86_400.0), (1, float("inf"))])
def test_a_rate_that_cannot_be_reckoned_with_is_refused(rate: tuple[int, float]) -> None:
    with pytest.raises(ConfigurationError, match="out of range"):
        Rate(*rate)


@pytest.mark.parametrize(
    ("text", "burst"), [("1/s", 1), ("19/s", 1), ("20/s", 2), ("1000/s", 100), ("600/m", 1), ("5/h", 1)]
)
def test_the_burst_is_a_tenth_of_a_second(text: str, burst: int) -> None:
    assert Rate.parse(text).burst == burst


@given(jobs=st.integers(1, 1_000_000), seconds=st.sampled_from([1.0, 60.0, 3600.0, 86_400.0]))
def test_jobs_are_never_closer_than_the_rate_says(jobs: int, seconds: float) -> None:
    exact = int(seconds) * 1_000_000_000
    interval = Rate(jobs, seconds).interval
    assert interval * jobs >= exact > (interval - 1) * jobs
