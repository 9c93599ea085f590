"""A real server on loopback for the tests of what is served."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from jobqueue.observe.metrics import Metrics
from jobqueue.web.app import create_app
from jobqueue.web.health import Health
from jobqueue.web.http_server import HttpServer

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """Servers of one test, stopped after it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.health = Health(cache_seconds=0.0)
        self.metrics = Metrics()
        self.server: HttpServer | None = None

    def serve(self, *routes: BaseRoute, trusted_proxies: str = "") -> HttpServer:
        networks = [ip_network(network) for network in trusted_proxies.split(",") if network]
        app = create_app(self.health, self.metrics, routes)
        self.server = HttpServer(app, "127.0.0.1", 0, trusted_proxies=networks)
        self.server.start()
        self._stack.callback(self.server.stop, 1.0)
        return self.server

    def connect(self) -> HTTPConnection:
        server = self.server or self.serve()
        return self._stack.enter_context(closing(HTTPConnection("127.0.0.1", server.port, timeout=10)))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = self.connect()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=named, encode_chunked="Transfer-Encoding" in named)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
