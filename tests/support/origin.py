"""Origins on loopback whose clients can be made to wait: the frame of them, and one that serves files by their keys."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import FaultyServer, Request, Wire, reply


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


class SteadyOrigin(HeldOrigin):
    """An origin that serves `files` by key to whoever carries `secret`; used as a context manager.

    The first `hold[key]` requests for a key get no answer before `release` is called or their client leaves.
    """

    def __init__(self, files: dict[str, bytes] | None = None, *, secret: str = "origin-secret") -> None:
        super().__init__(secret)
        self.files = files or {}
        self.hold: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    def _answer(self, request: Request, wire: Wire) -> None:
        key = parse_qs(urlsplit(request.target).query)["key"][0]
        with self._lock:
            self.asked[key] += 1
            held = self.asked[key] <= self.hold[key]
        if held and not self._released.is_set():
            self._hold()
        body = self.files.get(key)
        if request.headers.get("authorization") != f"Bearer {self.secret}":
            reply(401)(request, wire)
        elif body is None:
            reply(404)(request, wire)
        else:
            reply(200, body)(request, wire)
