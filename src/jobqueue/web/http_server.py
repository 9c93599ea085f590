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
    from collections.abc import Sequence

    from starlette.types import ASGIApp
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

    from jobqueue.settings.environment_values import Network

log = get_logger(__name__)

IDLE_SECONDS: Final = 10.0
"""Seconds that a connection may stay without a complete request."""

CONNECTION_LIMIT: Final = 256
"""Connections that are kept; for another, the one that has been idle for longest is closed."""

RESERVE: Final = 64
"""Connections beyond the limit where none of the others is idle, for probes: what else comes is answered 503 then."""

UNREAD_SECONDS: Final = 10.0
"""Seconds for which a client may read nothing of its answer."""

_START_SECONDS: Final = 10.0
_CANCEL_SECONDS: Final = 1.0


class HttpServer:
    """Serves `app` on `host` and `port` until it is stopped. Port 0 takes a free one."""

    def __init__(self, app: ASGIApp, host: str, port: int, *, trusted_proxies: Sequence[Network] = ()) -> None:
        """What proxies of `trusted_proxies` say in X-Forwarded-For is believed."""
        self._app = app
        self._host = host
        self._port = port
        self._trusted = [form for network in trusted_proxies for form in _forms(network)]
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
        self._server = _UvicornServer(_config(self._app, self._trusted))
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
    def connections(self) -> int:
        """How many clients are connected."""
        return 0 if self._server is None else len(self._server.server_state.connections)

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
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._find_room():
            transport.abort()
            return
        # asyncio does this only for sockets that name their protocol, and accepted ones do not. Without it, a second request
        # on a kept connection waits 40 ms for the client's acknowledgement.
        accepted: socket.socket = transport.get_extra_info("socket")
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expect_request()

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._deadline, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """More is to be sent than the client reads. One that reads nothing of it would be waited for forever."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def _find_room(self) -> bool:
        """Whether this connection, which is among the others already, may stay."""
        others = [other for other in self.connections if isinstance(other, _Protocol) and other is not self]
        if len(others) < CONNECTION_LIMIT:
            return True
        idle = [other for other in others if other.idle]
        if idle:
            min(idle, key=lambda other: other.waits_until).transport.abort()
            return True
        return len(others) < CONNECTION_LIMIT + RESERVE

    @property
    def waits_until(self) -> float:
        """When the connection is closed unless a request comes, by the loop's clock."""
        return self._deadline.when() if self._deadline is not None else 0.0

    def _expect_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(IDLE_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.idle:
            # Closing in good order waits for the client to read what is left.
            self.transport.abort()


def _forms(network: Network) -> list[str]:
    """A network as the addresses in it may appear: one of version 4 also as a socket of both versions gives it."""
    mapped = [f"::ffff:{network.network_address}/{96 + network.prefixlen}"] if network.version == 4 else []
    return [str(network), *mapped]


def _config(app: ASGIApp, trusted: list[str]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # A client's address is that of the socket, whatever headers claim, unless that is a proxy's that is trusted.
        proxy_headers=bool(trusted),
        forwarded_allow_ips=trusted,
        h11_max_incomplete_event_size=HEADER_LIMIT,
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
