"""Threads that work together on one artifact: the first error stops them all and becomes the artifact's."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_TICK_SECONDS = 0.2


class _Stopped(BaseException):
    """Ends a thread whose work is no longer wanted."""


class Crew:
    """A context manager. When its block ends, all threads have ended.

    `changed` guards whatever the threads share. The owner's thread calls `tick` several times a second while it waits;
    the threads call `checkpoint` between steps. Either may raise, and ends everything by that.
    """

    def __init__(self, checkpoint: Callable[[], None], tick: Callable[[], None]) -> None:
        self.changed = threading.Condition()
        self._checkpoint = checkpoint
        self._tick = tick
        self._error: BaseException | None = None
        self._stopped = False
        self._threads: list[threading.Thread] = []
        self._running = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self._stopped = True
            self.changed.notify_all()
        # No thread may still write when the outcome is recorded.
        for thread in self._threads:
            thread.join()

    def start(self, name: str, count: int, work: Callable[[], None]) -> None:
        """Run `work` in `count` threads. They keep the log fields that are bound here."""
        for number in range(count):
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(self._run, work), name=f"{name}-{number}", daemon=True)
            self._threads.append(thread)
            with self.changed:
                self._running += 1
            thread.start()

    def checkpoint(self) -> None:
        """For the threads, between steps: returns while the work is still wanted."""
        if self._stopped:
            raise _Stopped
        self._checkpoint()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """For the threads, with `changed` held: wait until others have made `condition` true."""
        while not condition():
            if self._stopped:
                raise _Stopped
            self.changed.wait()

    def watch_until(self, condition: Callable[[], bool]) -> None:
        """For the owner: wait until `condition`, called with `changed` held, is true. Raises the threads' first error."""
        while True:
            with self.changed:
                if self._error is None and not condition():
                    self.changed.wait(_TICK_SECONDS)
                if self._error is not None:
                    raise self._error
                if condition():
                    return
            self._tick()

    def watch_to_end(self) -> None:
        """For the owner: wait until all threads have ended by themselves. Raises their first error."""
        self.watch_until(lambda: self._running == 0)

    def _run(self, work: Callable[[], None]) -> None:
        error: BaseException | None = None
        try:
            work()
        except _Stopped:
            pass
        except BaseException as raised:  # noqa: BLE001 - the boundary of a thread: the owner raises it again
            error = raised
        with self.changed:
            self._running -= 1
            if error is not None and self._error is None:
                self._error = error
                self._stopped = True
            self.changed.notify_all()
