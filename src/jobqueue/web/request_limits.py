"""The limits of every request: how large it may be, and how long it may take to arrive; and the answer to a fault."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = get_logger(__name__)

HEADER_LIMIT: Final = 16 * 1024
"""Bytes of all headers of a request together."""

BODY_LIMIT: Final = 64 * 1024
"""Bytes that a request's body may have."""

BODY_SECONDS: Final = 10.0
"""Seconds that a body may take to arrive, from the first read on."""

_DISCARDED_BYTES: Final = 1024 * 1024
_DISCARD_SECONDS: Final = 2.0


class ErrorGuard:
    """Answers 500 without details when an endpoint raises, and logs the exception."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        started = _Started(send)
        try:
            await self._app(scope, receive, started)
        except asyncio.CancelledError:
            # Only the end of the server cancels a request.
            if started.happened:
                raise
            await _answer(503, "Shutting down", scope, receive, send)
        except ClientDisconnect:
            log.debug("http_client_went_away", method=scope.get("method"), path=scope.get("path"))
        except Exception as error:
            if started.happened:
                # Half an answer is out: only a broken connection tells the client.
                raise
            log.error("http_request_failed", method=scope.get("method"), path=scope.get("path"), exc_info=error)
            await _answer(500, "Internal server error", scope, receive, send)


class RequestRoom:
    """Answers 503 while `most` other requests are under way. Probes are always answered."""

    def __init__(self, app: ASGIApp, most: int, probes: frozenset[str]) -> None:
        self._app = app
        self._most = most
        self._probes = probes
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, if there is room."""
        if scope.get("path") in self._probes:
            await self._app(scope, receive, send)
        elif self._under_way >= self._most:
            await _answer(503, "Too many requests at once", scope, receive, send)
        else:
            self._under_way += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._under_way -= 1


class RequestLimits:
    """Answers 431 to headers over HEADER_LIMIT, 413 to a body over `limit` bytes and 408 to one that takes over `seconds`."""

    def __init__(self, app: ASGIApp, limit: int = BODY_LIMIT, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._limit = limit
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, counting the body while it is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_LIMIT:
            await _answer(431, "Headers too large", scope, receive, send)
            return
        headers = dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # A proxy in front may take the other for the body's end, and what we take for the next request for a part of it.
            await _answer(400, "Content-Length and Transfer-Encoding", scope, receive, send)
            return
        # The server has checked that it is a number.
        if int(headers.get(b"content-length", b"0")) > self._limit:
            if b"expect" not in headers:
                await _discard(receive)
            await _answer(413, "Body too large", scope, receive, send)
            return

        seen = 0
        complete = False
        deadline: float | None = None

        async def counted() -> Message:
            nonlocal seen, complete, deadline
            if complete:
                # Only the news that the client went away can come now, and that may take as long as the answer does.
                return await receive()
            deadline = deadline or time.monotonic() + self._seconds
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise _RefusedError(408, "Body too slow") from None
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > self._limit:
                if not complete:
                    await _discard(receive)
                raise _RefusedError(413, "Body too large")
            return message

        started = _Started(send)
        try:
            await self._app(scope, counted, started)
        except _RefusedError as refused:
            if started.happened:
                raise
            await _answer(refused.status, refused.reason, scope, receive, send)


class _RefusedError(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _Started:
    """Passes messages on, and remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.happened = False

    async def __call__(self, message: Message) -> None:
        self.happened = self.happened or message["type"] == "http.response.start"
        await self._send(message)


async def _discard(receive: Receive) -> None:
    """Read a refused body to its end, within bounds: a client that still sends would see a reset and no answer."""
    seen = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while seen <= _DISCARDED_BYTES:
                message = await receive()
                seen += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def _answer(status: int, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    # Nobody reads the rest of the body: the connection cannot carry another request.
    headers = {"Cache-Control": "no-store", "Connection": "close"}
    await JSONResponse({"error": reason}, status, headers)(scope, receive, send)
