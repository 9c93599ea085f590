"""Waiting for conditions instead of sleeping, by a clock that goes slower where the tests have to share the processor.

A promise in seconds is one for a machine that has the time. Where four threads want one core, what takes a second takes four,
and that says nothing about the code: there, each second counts for a quarter of one.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Its fourth field is how many threads run or want to, and how many there are (proc_loadavg(5)).
_LOAD: Final = Path("/proc/loadavg")

# However busy the machine is, what hangs is found to hang.
_MOST: Final = 10.0

_SAMPLE_EVERY: Final = 0.05


def crowding() -> float:
    """How many threads want each core at this moment; 1 when none has to wait, and where nobody says."""
    try:
        wanting = int(_LOAD.read_text().split()[3].partition("/")[0])
    except OSError:
        return 1.0
    return min(_MOST, max(1.0, wanting / (os.cpu_count() or 1)))


def eventually(predicate: Callable[[], T], timeout: float = 10.0, *, interval: float = 0.01) -> T:
    """Call `predicate` until it returns something true and return that.

    Raises AssertionError with the last value after `timeout` seconds, as an idle machine counts them. What `predicate` raises
    is not caught.
    """
    left, before = timeout, time.monotonic()
    while not (value := predicate()):
        now = time.monotonic()
        left -= (now - before) / crowding()
        before = now
        if left <= 0:
            raise AssertionError(f"still {value!r} after {timeout} s: {predicate}")
        time.sleep(interval)
    return value


class Stopwatch:
    """Counts the `seconds` since it was entered, as an idle machine would; it stops when it is left.

    `crowding` is by how much they are longer here, on the average.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._passed = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count, name="stopwatch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def crowding(self) -> float:
        return self._passed / self.seconds

    def _count(self) -> None:
        before, stopped = time.monotonic(), False
        while not stopped:
            stopped = self._stop.wait(_SAMPLE_EVERY)
            now = time.monotonic()
            self.seconds += (now - before) / crowding()
            self._passed += now - before
            before = now
