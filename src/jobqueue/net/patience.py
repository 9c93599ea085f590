"""Retries of one file or one part: transient trouble costs a pause, not the archive."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

from jobqueue.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ATTEMPTS: Final = 5
"""Attempts at one file or part that may bring nothing."""

PROGRESS_BYTES: Final = 8 * 1024 * 1024
"""An attempt that brought at least this much is not held against a file: a long one may break off many times."""

_BASE_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 30.0
_SLICE: Final = 0.1


class Patience:
    """Waits after each fault that may pass, longer each time, with jitter. `checkpoint` may end a wait by raising."""

    def __init__(self, checkpoint: Callable[[], None], attempts: int = ATTEMPTS) -> None:
        self._checkpoint = checkpoint
        self._attempts = attempts
        self._failed = 0

    def wait(self, fault: Retry, gained: int = 0) -> None:
        """Return when it is time to try again; raises `fault` when that has been done often enough.

        `gained` is the number of bytes that the failed attempt brought. A wish of the peer's (`fault.after`) is
        followed up to 30 seconds.
        """
        self._failed = 0 if gained >= PROGRESS_BYTES else self._failed + 1
        if self._failed >= self._attempts:
            raise fault
        backoff = random.uniform(0.5, 1.0) * _BASE_SECONDS * 2**self._failed
        until = time.monotonic() + min(_LONGEST_SECONDS, max(backoff, fault.after or 0.0))
        while (left := until - time.monotonic()) > 0:
            self._checkpoint()
            time.sleep(min(left, _SLICE))


def patiently(
    action: Callable[[], T], checkpoint: Callable[[], None], *, except_for: tuple[type[Retry], ...] = ()
) -> T:
    """What `action` returns, tried again while it raises Retry; raises its last Retry, or whatever else it raises.

    Of Retry, those of `except_for` are raised at once.
    """
    patience = Patience(checkpoint)
    while True:
        checkpoint()
        try:
            return action()
        except except_for:
            raise
        except Retry as fault:
            patience.wait(fault)
