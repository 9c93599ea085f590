"""What a handler raises to say how its job ends: how waits are given."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from jobqueue.errors import Retry, Snooze


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (30, 30.0),
        (0.5, 0.5),
        (timedelta(minutes=2), 120.0),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 4), 0.25),
        (-1, -1.0),
        (math.nan, 0.0),
        (Decimal("NaN"), 0.0),
        (math.inf, math.inf),
        (10**400, math.inf),
        (-(10**400), -math.inf),
    ],
)
def test_a_wait_is_a_timedelta_or_a_number_of_seconds(given: Any, seconds: float) -> None:
    assert Retry("again", after=given).after == seconds
    assert Snooze("later", given).seconds == seconds


@pytest.mark.parametrize("given", ["30", b"30", [30], object(), 1j])
def test_what_is_no_wait_is_refused_in_words(given: Any) -> None:
    with pytest.raises(TypeError, match=rf"Retry\(message, after\) takes .* not {type(given).__name__}"):
        Retry("again", after=given)
    with pytest.raises(TypeError, match=rf"Snooze\(message, seconds\) takes .* not {type(given).__name__}"):
        Snooze("later", given)


def test_only_a_retry_may_leave_the_wait_to_its_queue() -> None:
    assert Retry("again").after is None
    with pytest.raises(TypeError, match="not NoneType"):
        Snooze("later", None)  # type: ignore[arg-type]
