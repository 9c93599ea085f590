"""The HTTP server: uvicorn in one daemon thread, beside a daemon whose main thread keeps the signals."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from jobqueue.errors import ConfigurationError
from jobqueue.observe.logging import get_logger
from jobqueue.web.request_limits import HEADER_LIMIT

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

log = get_logger(__name__)

IDLE_SECONDS: Final = 10.0
"""Seconds that a connection may stay without a complete request."""

CONNECTION_LIMIT: Final = 256
"""Connections that are served; with more, requests are answered 503."""

_START_SECONDS: Final = 10.0
_CANCEL_SECONDS: Final = 1.0


class HttpServer:
    """Serves `app` on `host` and `port` until it is stopped. Port 0 takes a free one."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._server: _UvicornServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start serving; returns when it accepts connections.

        Raises ConfigurationError when the address cannot be listened on, for example because the port is taken, and RuntimeError
        when the server does not start within 10 seconds.
        """
        if self._server is not None:
            raise RuntimeError("the server was started before")
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._server = _UvicornServer(_config(self._app))
        self._thread = threading.Thread(target=self._run, args=(self._server, listener), name="http", daemon=True)
        self._thread.start()
        if not self._server.settled.wait(_START_SECONDS) or not self._server.started:
            self._server.should_exit = True
            self._thread.join(_CANCEL_SECONDS)
            raise RuntimeError("the HTTP server did not start; the log says why")
        log.info("http_listening", host=self._host, port=self._port)

    @property
    def port(self) -> int:
        """The port that the server listens on; before `start`, the one asked for."""
        return self._port

    @property
    def alive(self) -> bool:
        """Whether the server serves: not before `start`, nor after `stop` or the death of its thread."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, timeout: float = 5.0) -> None:
        """Stop accepting, let requests in flight finish for `timeout` seconds, then end them. Can be called again."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.warning("http_requests_cancelled", timeout_seconds=timeout)
            self._server.cancel_requests()
            self._thread.join(_CANCEL_SECONDS)

    @staticmethod
    def _run(server: _UvicornServer, listener: socket.socket) -> None:
        try:
            server.run(sockets=[listener])
        except Exception:
            # The thread ends here; `alive` tells.
            log.exception("http_server_failed")
        finally:
            listener.close()
            server.settled.set()


class _UvicornServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.settled.set()

    def cancel_requests(self) -> None:
        """End the requests in flight. Any thread may call this: uvicorn's own limit is fixed at the start, in whole seconds."""
        if self._loop is not None:
            # The loop may have ended by itself just now.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel_tasks)

    def _cancel_tasks(self) -> None:
        for task in tuple(self.server_state.tasks):
            task.cancel()


class _Protocol(H11Protocol):
    """Closes a connection that brings no complete request in time; uvicorn itself waits forever for the first one."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this only for sockets that name their protocol, and accepted ones do not. Without it, a second request
        # on a kept connection waits 40 ms for the client's acknowledgement.
        accepted: socket.socket = transport.get_extra_info("socket")
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expect_request()

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(IDLE_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.response_complete:
            self.transport.close()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # A client's address is that of the socket, whatever headers claim.
        proxy_headers=False,
        h11_max_incomplete_event_size=HEADER_LIMIT,
        limit_concurrency=CONNECTION_LIMIT,
        timeout_keep_alive=5,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        options: dict[str, Any] = {"dualstack_ipv6": True} if host == "::" and socket.has_dualstack_ipv6() else {}
        return socket.create_server(address[:2], family=family, backlog=128, **options)
    except OSError as error:
        reason = error.strerror or str(error)
        problem = f"PORT cannot be listened on at {host}:{port} ({reason})"
        raise ConfigurationError([f"{problem}; for example PORT=8081, or PORT=0 to do without HTTP"]) from error
