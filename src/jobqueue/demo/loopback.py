"""A small HTTP server on loopback, in threads of this process: the origin, the CDN and the result page build on it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from jobqueue.demo.launch import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from email.message import Message

_BIND_ATTEMPTS = 20
_IDLE_SECONDS = 60


@dataclass(frozen=True)
class Request:
    """One request, its path and query decoded. Of a repeated query parameter the last value counts."""

    path: str
    query: Mapping[str, str]
    headers: Message


@dataclass(frozen=True)
class Response:
    """An answer: `length` bytes of body from `chunks`, which only GET reads. The server calls `close` in any case."""

    status: HTTPStatus
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int = 0
    chunks: Iterable[bytes] = ()
    close: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, status: HTTPStatus, body: str = "", *, kind: str = "text/plain", **headers: str) -> Response:
        """Make a text answer in UTF-8. A keyword `cache_control` becomes the header `Cache-Control`."""
        data = (body or f"{status.value} {status.phrase}\n").encode()
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        return cls(status, {"Content-Type": f"{kind}; charset=utf-8", **named}, len(data), (data,))


class _LoopbackHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "jobqueue-demo"
    sys_version = ""
    timeout = _IDLE_SECONDS
    # Head and body are two writes; with Nagle's algorithm the second would wait until the first is acknowledged.
    disable_nagle_algorithm = True
    server: _LoopbackServer

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Log nothing: standard error belongs to the demo's own output."""

    def _answer(self, *, with_body: bool) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if self.headers.get("Host") not in self.server.names:
            # Otherwise a page elsewhere could have its own name resolve to loopback and read this server's answers.
            response = Response.of(HTTPStatus.MISDIRECTED_REQUEST)
        else:
            response = self.server.respond(Request(unquote(parts.path), query, self.headers))
        try:
            self._send(response, with_body=with_body)
        finally:
            response.close()

    def _send(self, response: Response, *, with_body: bool) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(response.length))
        self.end_headers()
        if with_body:
            sent = 0
            for chunk in response.chunks:
                self.wfile.write(chunk)
                sent += len(chunk)
            if sent != response.length:
                self.close_connection = True  # nothing else can tell the client now that the body stopped short


class HangableServer(ThreadingHTTPServer):
    """A server with one thread a connection, which can end all of them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__((HOST, port), handler)
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a client that went away is not worth a traceback, and it sees its connection end."""

    def hang_up(self) -> None:
        """End all connections, idle or not, and wait up to 10 s for their threads."""
        with self._changed:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, timeout=10)


class _LoopbackServer(HangableServer):
    def __init__(self, port: int, respond: Callable[[Request], Response]) -> None:
        super().__init__(port, _LoopbackHandler)
        self.respond = respond
        self.names = {f"{HOST}:{port}", f"localhost:{port}"}


class LoopbackServer:
    """Serves `respond(request)` at http://127.0.0.1:PORT for GET and HEAD, each connection in a thread.

    The port is a free one, and stays the same over `stop` and `start`.
    """

    def __init__(self, respond: Callable[[Request], Response]) -> None:
        self._respond = respond
        self._server: _LoopbackServer | None = None
        self._thread: threading.Thread | None = None
        self._port: int | None = None

    @property
    def url(self) -> str:
        """The server's base URL, without a slash at the end; known after the first start."""
        assert self._port is not None, "not started"
        return f"http://{HOST}:{self._port}"

    def start(self) -> None:
        """Listen; connections are accepted when this returns. Raises OSError when no port could be bound."""
        if self._server is not None:
            return
        self._server = self._bind()
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=self.url, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server.hang_up()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _bind(self) -> _LoopbackServer:
        if self._port is not None:
            return _LoopbackServer(self._port, self._respond)
        for _ in range(_BIND_ATTEMPTS):
            with suppress(OSError):
                return _LoopbackServer(free_port(), self._respond)
        return _LoopbackServer(free_port(), self._respond)
