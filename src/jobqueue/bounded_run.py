"""Work that somebody asks for over HTTP: one run at a time in this process, each answered in time.

The run goes on in a thread of its own when its caller has been answered. What it has begun by then is not thrown away; the work
itself sees to it that it may be cut off at any moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

ANSWER_SECONDS: Final = 24.0
"""When a run is answered at the latest: a second below what callers were promised."""

Proceed = Callable[[], bool]
"""Whether a run may begin more: asked before each piece of work."""

Done = TypeVar("Done")
"""What a run has done so far. The work brings it up to date while it goes on."""


class Unavailable(Exception):
    """No run can be made now. The message says why, to whoever may ask for one; the cause is for the log."""


class BoundedRun(Generic[Done]):
    """Makes runs of `work`, one at a time: whoever asks meanwhile waits, and is answered in time all the same.

    A run begins work for `run_seconds`, and is answered `answer_seconds` after it was asked for. It has begun once `work` has
    asked whether to proceed. `begin` makes what `work`
    writes its progress to. `late` is told of one that is answered before it has ended. `hurry` is called by `stop`, to end
    the run under way. `work` raises Unavailable where it cannot be done now.
    """

    def __init__(
        self,
        begin: Callable[[], Done],
        work: Callable[[Proceed, Done], object],
        *,
        run_seconds: float,
        answer_seconds: float = ANSWER_SECONDS,
        late: Callable[[Done], None] = lambda _done: None,
        hurry: Callable[[], None] = lambda: None,
    ) -> None:
        self._begin = begin
        self._work = work
        self._run_seconds = run_seconds
        self._answer_seconds = answer_seconds
        self._late = late
        self._hurry = hurry
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._stopping = False
        # Whether the run under way has come as far as to ask.
        self._begun = False

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def call(self) -> Done:
        """Make a run; returns what it had done when it ended or was to be answered.

        Raises Unavailable, as `work` does, when the process is stopping, and when the run under way has not begun in time.
        """
        began = time.monotonic()
        done = self._begin()
        if not self._turn.acquire(timeout=self._run_seconds):
            # An earlier call's run is still under way.
            return self._answer_late(done)
        ended, failed = threading.Event(), list[Unavailable]()

        def proceed() -> bool:
            self._begun = True
            return not self._stopping and time.monotonic() < began + self._run_seconds

        def work() -> None:
            try:
                self._work(proceed, done)
            except Unavailable as reason:
                failed.append(reason)
            finally:
                self._turn.release()
                ended.set()

        try:
            if self._stopping:
                raise Unavailable("the process is stopping")
            self._ended, self._begun = ended, False
            # A daemon thread: the process's end does not wait for it.
            threading.Thread(target=work, name="bounded-run", daemon=True).start()
        except BaseException:
            self._turn.release()
            raise
        if not ended.wait(max(0.0, began + self._answer_seconds - time.monotonic())):
            return self._answer_late(done)
        if failed:
            raise failed[0]
        return done

    def _answer_late(self, done: Done) -> Done:
        if not self._begun:
            # It waits for something, most likely for the database: it is not known that there is nothing to do.
            raise Unavailable("the run has not begun in time: the database does not answer, or not soon enough")
        self._late(done)
        return done

    def stop(self, timeout: float) -> bool:
        """Begin nothing more; returns whether the run under way ended within `timeout` seconds."""
        self._stopping = True
        self._hurry()
        return self._ended.wait(timeout)
