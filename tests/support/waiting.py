"""Waiting for conditions instead of sleeping."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 10.0, *, interval: float = 0.01) -> T:
    """Call `predicate` until it returns something true and return that.

    Raises AssertionError with the last value after `timeout` seconds. What `predicate` raises is not caught.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"still {value!r} after {timeout} s: {predicate}")
        time.sleep(interval)
    return value
