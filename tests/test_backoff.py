"""Backoff: full jitter under an exponential ceiling with a cap."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.backoff import Reconnect
from jobqueue.kernel import Backoff


@given(st.floats(0.01, 100), st.floats(1, 1e5), st.integers(0, 10_000))
def test_the_delay_lies_under_the_ceiling_and_the_cap(base: float, cap: float, retry: int) -> None:
    backoff = Backoff(base, cap)
    assert 0.0 <= backoff.delay(retry) <= backoff.ceiling(retry) <= cap


def test_the_ceiling_doubles_until_the_cap() -> None:
    assert [Backoff(base=10, cap=100).ceiling(retry) for retry in range(6)] == [10, 20, 40, 80, 100, 100]


def test_the_jitter_is_full() -> None:
    random.seed(1)
    delays = [Backoff(base=10).delay(0) for _ in range(2_000)]
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
