"""The frame of origins whose clients can be made to wait."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self

from tests.support.http_server import FaultyServer, Request, Wire


class HeldOrigin(ABC):
    """An origin on loopback, used as a context manager: what it answers, and whom it holds, its class says in `_answer`."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._holding = 0
        self._server = FaultyServer(self._answer)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.__exit__()

    @property
    def endpoint(self) -> str:
        return f"{self._server.url}/files"

    @property
    def holding(self) -> int:
        """How many requests wait for `release` now."""
        return self._holding

    def release(self) -> None:
        """Answer every request that is held; those to come are not held any more."""
        self._released.set()

    @abstractmethod
    def _answer(self, request: Request, wire: Wire) -> None: ...

    def _hold(self) -> None:
        """Wait for `release`."""
        with self._lock:
            self._holding += 1
        self._released.wait()
        with self._lock:
            self._holding -= 1
