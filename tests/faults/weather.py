"""HTTP servers in bad weather: of the requests a share, drawn at random, is answered as broken networks and busy servers do."""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from jobqueue.demo.launch import HOST
from jobqueue.demo.loopback import HangableServer

if TYPE_CHECKING:
    from jobqueue.demo.object_store import ObjectStore

FAULTS: Final = ("500", "503", "reset", "lost", "short")
"""An error; busy, come again in a second; a reset instead of an answer, before the request is carried out; and after it;
half of the answer's body."""

# What belongs to one connection and is not passed on (RFC 9110, section 7.6.1).
_OF_THE_CONNECTION: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length"}
)


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]
    """Names are in lower case."""
    body: bytes


@dataclass(frozen=True)
class Answer:
    """`length` stands for the body of an answer to HEAD, which has none."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


Respond = Callable[[Request], Answer]


class Weather:
    """Draws what happens to each request. `share` of them, from 0 to 1, meet one of FAULTS; `met` counts which."""

    def __init__(self, seed: int, share: float = 0.0) -> None:
        self.share = share
        self.met: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def draw(self) -> str | None:
        with self._lock:
            if self._random.random() >= self.share:
                return None
            fault = self._random.choice(FAULTS)
            self.met[fault] += 1
            return fault


class WeatheredServer:
    """Answers with `respond`, each connection in a thread of its own, under `weather`; used as a context manager."""

    def __init__(self, respond: Respond, weather: Weather) -> None:
        self.weather = weather
        self._server = _Server(respond, weather)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="weathered-server", daemon=True
        )
        self.url = f"http://{HOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()


class _Server(HangableServer):
    def __init__(self, respond: Respond, weather: Weather) -> None:
        super().__init__(0, _Handler)
        self.respond = respond
        self.weather = weather


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 60
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.server.weather.draw()
        match fault:
            case "500":
                answer = Answer(500, b"broken")
            case "503":
                answer = Answer(503, b"busy", {"Retry-After": "1"})
            case "reset":
                return self._reset()
            case _:
                answer = self.server.respond(Request(self.command, self.path, headers, body))
        if fault == "lost" or (fault == "short" and not answer.body):
            return self._reset()
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        length = len(answer.body) if answer.length is None else answer.length
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault == "short":
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the base class's names

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Nothing is logged."""


def origin(file: Callable[[str], bytes | None], secret: str) -> Respond:
    """Serves `file(key)` to whoever carries `secret`, with ranges and validators; 404 where it is None."""

    def respond(request: Request) -> Answer:
        if request.headers.get("authorization") != f"Bearer {secret}":
            return Answer(401)
        body = file(parse_qs(urlsplit(request.target).query)["key"][0])
        if body is None:
            return Answer(404)
        # A hash of bytes differs from process to process and not within one, which is what a validator needs.
        given = {"ETag": f'"{hash(body):x}"', "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not wanted or request.headers.get("if-range") not in (None, given["ETag"]):
            return Answer(200, body, given)
        start, end = int(wanted[1]), min(len(body), int(wanted[2]) + 1 if wanted[2] else len(body))
        if start >= len(body):
            return Answer(416, b"", {**given, "Content-Range": f"bytes */{len(body)}"})
        return Answer(206, body[start:end], {**given, "Content-Range": f"bytes {start}-{end - 1}/{len(body)}"})

    return respond


def gateway(store: ObjectStore) -> Respond:
    """Passes requests on to `store` as they are, and its answers back: they stay as they were signed."""

    def respond(request: Request) -> Answer:
        connection = http.client.HTTPConnection(HOST, store.port, timeout=30)
        try:
            passed_on = {name: value for name, value in request.headers.items() if name != "connection"}
            connection.request(request.method, request.target, request.body, passed_on)
            said = connection.getresponse()
            body = said.read()
        except (OSError, http.client.HTTPException):
            return Answer(502)
        finally:
            connection.close()
        headers = {name: value for name, value in said.getheaders() if name.lower() not in _OF_THE_CONNECTION}
        length = int(said.getheader("Content-Length") or 0) if request.method == "HEAD" else None
        return Answer(said.status, body, headers, length)

    return respond
