"""LISTEN as a hint: a loop that listens rests on its connection, and learns at once that jobs are due or a lease was revoked."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from jobqueue.kernel.loop import Loop
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from psycopg import Connection

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.meter import Meter

log = get_logger(__name__)

# Seconds to listen before asking the server for a sign of life: a half-open connection is silent forever.
_SILENCE = 10.0


class _Bell(NamedTuple):
    """The descriptors of a pipe by which other threads end a rest."""

    read: int
    write: int


class Listener:
    """Listens on the channel `jobqueue`, whose payloads are `due QUEUE` and `revoked QUEUE`, .

    It belongs to one thread, with which it shares the link; only `wake` may be called from elsewhere. Polling goes on
    regardless: nothing depends on a notification.

    `due(queue)` and `revoked()` pass notifications on. After every (re-)connection comes `due(None)`, because earlier notifications may be lost.
    """

    def __init__(
        self,
        link: Link,
        meter: Meter,
        due: Callable[[str | None], None],
        revoked: Callable[[], None],
    ) -> None:
        self._link = link
        self._meter = meter
        self._due = due
        self._revoked = revoked
        self._listening = 0
        self._heard_at = 0.0
        self._resting = False
        self._bell: _Bell | None = None
        self._ringing = threading.Lock()
        self._poll = select.poll()

    def listen(self) -> None:
        """Listen if the link has a new connection, and pass on what has arrived. Raises psycopg's errors."""
        connection = self._link.connection()
        if self._listening != self._link.opened:
            self._begin(connection)
        self._pass_on(connection)

    def rest(self, seconds: float, woken: threading.Event) -> None:
        """Wait for so long at most, until something arrives, or until `woken` is set and `wake` called.

        Raises psycopg's errors.
        """
        if self._bell is None or self._listening != self._link.opened:
            return
        connection = self._link.connection()
        # A notification that came with a statement's answer has been read: the socket does not tell of it again.
        if self._pass_on(connection):
            return
        self._resting = True
        try:
            ready = [] if woken.is_set() else self._poll.poll(min(seconds, _SILENCE) * 1000)
        finally:
            self._resting = False
        for descriptor, _ in ready:
            if descriptor == self._bell.read:
                os.read(descriptor, 4096)
            else:
                connection.pgconn.consume_input()
                self._heard_at = time.monotonic()
        # A wait may end a little early. A loop that was woken asks the server something anyway.
        if not ready and not woken.is_set() and time.monotonic() - self._heard_at > 0.9 * _SILENCE:
            self._link.fetch(b"SELECT 1")
            self._heard_at = time.monotonic()

    def wake(self) -> None:
        """End a rest, after `woken` has been set. Callable from any thread."""
        if self._resting:
            # The lock: a descriptor that was closed may mean another file by now. A full pipe rings as well.
            with self._ringing, suppress(BlockingIOError):
                if self._bell is not None:
                    os.write(self._bell.write, b"!")

    def lost(self) -> None:
        """The connection was lost."""
        self._meter.metrics.listener_up.set(0)

    def close(self) -> None:
        """Listen no more. The link stays open."""
        self.lost()
        with self._ringing:
            bell, self._bell = self._bell, None
            for descriptor in bell or ():
                os.close(descriptor)

    def _begin(self, connection: Connection[Any]) -> None:
        self._link.fetch(b"LISTEN jobqueue")
        has_session = connection.prepare_threshold is not None
        self._meter.metrics.listener_up.set(1 if has_session else 0)
        if not has_session:
            log.warning("listener_deaf", reason="a transaction pooler answers: set DATABASE_DIRECT_URL to be woken")
        self._due(None)
        if self._bell is None:
            self._bell = _Bell(*os.pipe())
            for descriptor in self._bell:
                os.set_blocking(descriptor, False)
        self._poll = select.poll()
        self._poll.register(self._bell.read, select.POLLIN)
        self._poll.register(connection.fileno(), select.POLLIN)
        self._listening = self._link.opened
        self._heard_at = time.monotonic()

    def _pass_on(self, connection: Connection[Any]) -> bool:
        """Pass on the notifications that have been read; returns whether there were any."""
        anything = False
        while notification := connection.pgconn.notifies():
            anything = True
            verb, _, queue = notification.extra.decode(errors="replace").partition(" ")
            if verb == "due":
                self._due(queue)
            elif verb == "revoked":
                self._revoked()
        return anything


class ListenLoop(Loop):
    """A loop that can listen on its own connection: it acts on a notification in its own thread, and wakes no other."""

    _listener: Listener | None = None

    def listen_with(
        self,
        due: Callable[[str | None], None],
        revoked: Callable[[], None],
    ) -> None:
        """Listen from the first turn on, and call these (see Listener). Call it before `start`."""
        self._listener = Listener(self.link, self.meter, due, revoked)

    def turn(self) -> float:
        if self._listener:
            self._listener.listen()
        return _SILENCE

    def rest(self, seconds: float) -> None:
        if self._listener:
            self._listener.rest(seconds, self._wake)
        else:
            super().rest(seconds)

    def wake(self) -> None:
        super().wake()
        if self._listener:
            self._listener.wake()

    def lost(self) -> None:
        if self._listener:
            self._listener.lost()

    def last(self) -> None:
        if self._listener:
            self._listener.close()


class DirectListenLoop(ListenLoop):
    """Listens for the other loops, on a connection that leads past a transaction pooler."""

    name = "listen"

    def lost(self) -> None:
        super().lost()
        self.link.close()
