"""A checkpoint that takes long, as a worker's does while its database is silent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.http_server import Answer, Request, Wire


class Outage:
    """A `checkpoint` after a request has come takes `seconds`. Only then does `before` let its answer go.

    It is the second one, for the first may be the one that comes after what was sent before.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._asked = threading.Event()
        self._called = 0
        self.over = threading.Event()

    def checkpoint(self) -> None:
        if not self._asked.is_set() or self.over.is_set():
            return
        self._called += 1
        if self._called == 2:
            # The length of the outage is what is tested.
            threading.Event().wait(self._seconds)
            self.over.set()

    def before(self, answer: Answer, *, start: bytes = b"") -> Answer:
        """`answer`, given when the outage is over; `start` is sent before it."""

        def after(request: Request, wire: Wire) -> None:
            wire.send(start)
            self._asked.set()
            self.over.wait(30.0)
            answer(request, wire)

        return after
