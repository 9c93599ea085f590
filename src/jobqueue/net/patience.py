"""Retries of one file or one part: transient trouble costs a pause, not the artifact."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from tenacity import Retrying

from jobqueue.backoff import Backoff
from jobqueue.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

T = TypeVar("T")

ATTEMPTS: Final = 5
"""Attempts in a row at one file or part that may bring too little."""

PROGRESS_BYTES: Final = 8 * 1024 * 1024
"""An attempt that brought at least this much does not count: a long file may break off many times."""

_BACKOFF: Final = Backoff(first=0.5, longest=30.0, jitter=0.5)
_SLICE: Final = 0.1


def patiently(
    action: Callable[[], T],
    checkpoint: Callable[[], None],
    *,
    progress: Callable[[], int] = lambda: 0,
    except_for: tuple[type[Retry], ...] = (),
) -> T:
    """What `action` returns, tried again while it raises Retry, except for those of `except_for`.

    `progress()` is the number of bytes that have come so far. `checkpoint` is called before each attempt and several
    times a second between them, and may end the wait by raising. A peer's wish (`Retry.after`) counts up to 30 seconds.
    Raises the last Retry when ATTEMPTS attempts in a row brought too little, and whatever else `action` raises.
    """
    patience = _Patience(checkpoint, progress, except_for)
    return Retrying(
        before=patience.begin,
        retry=patience.may_pass,
        stop=patience.is_over,
        wait=patience.pause,
        sleep=patience.rest,
        reraise=True,
    )(action)


class _Patience:
    """What one call of `patiently` tells tenacity."""

    def __init__(
        self, checkpoint: Callable[[], None], progress: Callable[[], int], except_for: tuple[type[Retry], ...]
    ) -> None:
        self._checkpoint = checkpoint
        self._progress = progress
        self._except_for = except_for
        self._before = 0
        self._failed = 0

    def begin(self, _state: RetryCallState) -> None:
        self._checkpoint()
        self._before = self._progress()

    def may_pass(self, state: RetryCallState) -> bool:
        fault = _fault(state)
        return isinstance(fault, Retry) and not isinstance(fault, self._except_for)

    def is_over(self, _state: RetryCallState) -> bool:
        self._failed = 0 if self._progress() - self._before >= PROGRESS_BYTES else self._failed + 1
        return self._failed >= ATTEMPTS

    def pause(self, state: RetryCallState) -> float:
        fault = _fault(state)
        wish = fault.after if isinstance(fault, Retry) else None
        return min(_BACKOFF.longest, max(_BACKOFF.delay(self._failed), wish or 0.0))

    def rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._checkpoint()
            time.sleep(min(left, _SLICE))


def _fault(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()
