"""LISTEN as a hint: wakes the claimer when jobs are due, and the heartbeat when a lease was revoked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobqueue.kernel.loop import Loop
from jobqueue.kernel.presence import take_presence
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel.link import Link
    from jobqueue.kernel.meter import Meter

log = get_logger(__name__)

# How long to listen before asking the server for a sign of life: a half-open connection is silent for ever.
_SILENCE = 10.0

# How often the loop looks whether it is to stop.
_GLANCE = 0.5


class Listener(Loop):
    """Listens on the channel `jobqueue`, whose payloads are `due QUEUE` and `revoked QUEUE`, and holds this process' presence.

    `present(number)` is called after every (re-)connection, with None behind a pooler. `due(queue)` and `revoked()` are called in the listener's thread; `due(None)` after every (re-)connection, because
    what was said meanwhile is lost. Polling goes on regardless: nothing depends on a notification.
    """

    name = "listen"

    def __init__(
        self,
        link: Link,
        meter: Meter,
        due: Callable[[str | None], None],
        revoked: Callable[[], None],
        present: Callable[[int | None], None],
    ) -> None:
        super().__init__(link, meter)
        self._present = present
        self._due = due
        self._revoked = revoked
        self._listening = 0
        self._heard_at = 0.0

    def turn(self) -> float:
        connection = self.link.connection()
        if self._listening != self.link.opened:
            self.link.fetch(b"LISTEN jobqueue")
            self._listening = self.link.opened
            hears = connection.prepare_threshold is not None
            self.meter.metrics.listener_up.set(1 if hears else 0)
            if not hears:
                log.warning("listener_deaf", reason="a transaction pooler answers: set DATABASE_DIRECT_URL to be woken")
            self._present(take_presence(self.link) if hears else None)
            self._due(None)
            self._heard_at = time.monotonic()
        elif time.monotonic() - self._heard_at > _SILENCE:
            self.link.fetch(b"SELECT 1")
            self._heard_at = time.monotonic()
        for notification in connection.notifies(timeout=_GLANCE):
            verb, _, queue = notification.payload.partition(" ")
            if verb == "due":
                self._due(queue)
            elif verb == "revoked":
                self._revoked()
            if self.stopping:
                break
        return 0.0

    def lost(self) -> None:
        self.meter.metrics.listener_up.set(0)
        self.link.close()
