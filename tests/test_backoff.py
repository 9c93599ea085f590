"""Backoff: full jitter under an exponential ceiling with a cap."""

from __future__ import annotations

import random

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import RetryError, Retrying, stop_after_attempt

from jobqueue.backoff import Backoff, Reconnect


@given(st.floats(0.01, 100), st.floats(1, 1e5), st.integers(0, 10_000))
def test_the_delay_lies_under_the_ceiling_and_the_cap(base: float, cap: float, retry: int) -> None:
    backoff = Backoff(base, cap)
    assert 0.0 <= backoff.delay(retry) <= backoff.ceiling(retry) <= cap


def test_the_ceiling_doubles_until_the_cap() -> None:
    assert [Backoff(first=10, longest=100).ceiling(retry) for retry in range(6)] == [10, 20, 40, 80, 100, 100]


def test_the_jitter_is_full() -> None:
    random.seed(1)
    delays = [Backoff(first=10).delay(0) for _ in range(2_000)]
    assert min(delays) < 0.5
    assert max(delays) > 9.5
    assert 4.5 < sum(delays) / len(delays) < 5.5


def test_reconnecting_waits_longer_each_time_up_to_five_seconds_and_starts_again_after_a_success() -> None:
    reconnect = Reconnect()
    delays = [reconnect.next() for _ in range(12)]
    assert 0.05 <= delays[0] <= 0.1
    assert 2.5 <= delays[-1] <= 5.0
    reconnect.reset()
    assert reconnect.next() <= 0.1


def test_growth_and_jitter_are_the_callers() -> None:
    backoff = Backoff(first=3, longest=1000, growth=3, jitter=0.5)
    assert [backoff.ceiling(retry) for retry in range(6)] == [3, 9, 27, 81, 243, 729]
    assert all(4.5 <= backoff.delay(1) <= 9 for _ in range(200))
    assert Backoff(first=1e9, longest=86_400, growth=1e9).ceiling(10**9) == 86_400


def test_the_expression_says_the_same(database: str) -> None:
    backoff = Backoff(first=30, longest=900, jitter=0.2)
    query = f"SELECT n, {backoff.in_sql('n')} FROM generate_series(0, 3000) AS n"
    with psycopg.connect(database) as connection:
        rows = connection.execute(query.encode()).fetchall()
    assert all(0.8 * backoff.ceiling(n) <= delay <= backoff.ceiling(n) for n, delay in rows)
    late = [delay for _, delay in rows[10:]]
    # Processes that look at the same moment do not probe at the same moment.
    assert max(late) - min(late) > 0.19 * 900


def test_tenacity_waits_as_it_says() -> None:
    waits: list[float] = []
    attempts = Retrying(wait=Backoff(first=1, jitter=0), stop=stop_after_attempt(4), sleep=waits.append)
    with pytest.raises(RetryError):
        attempts(lambda: 1 / 0)
    assert waits == [1, 2, 4]
