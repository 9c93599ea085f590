from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.support.waiting import Stopwatch, eventually

from jobqueue.errors import ConfigurationError
from jobqueue.observe.metrics import Metrics
from jobqueue.web import http_server as module
from jobqueue.web.app import create_app
from jobqueue.web.health import Health
from jobqueue.web.http_server import HttpServer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from tests.web.helpers import Site


def http_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "http"]


class Slow:
    """An endpoint that has begun and does not end before it is let."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self, _request: Request) -> Response:
        self.begun.set()
        try:
            while not self.let.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return PlainTextResponse("done")

    def route(self) -> Route:
        async def endpoint(request: Request) -> Response:
            return await self(request)

        return Route("/slow", endpoint)


def test_it_listens_when_start_returns_and_not_after_stop(site: Site) -> None:
    server = site.serve()
    assert server.port > 0
    was_alive = server.alive
    assert was_alive
    assert site.ask("GET", "/healthz").status == 200
    server.stop()
    assert not server.alive
    with pytest.raises(ConnectionRefusedError):
        site.ask("GET", "/healthz")
    server.stop()


def test_a_taken_port_is_a_problem_with_its_name() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            HttpServer(create_app(Health(), Metrics()), "127.0.0.1", port).start()
    (line,) = caught.value.problems
    assert line.startswith(f"PORT cannot be listened on at 127.0.0.1:{port} (")
    assert "in use" in line
    assert "PORT=8081" in line


def test_so_is_an_address_that_is_not_ours() -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(ConfigurationError, match="PORT cannot be listened on"):
            HttpServer(create_app(Health(), Metrics()), host, 0).start()


def test_a_stopped_server_leaves_its_port_to_the_next(site: Site) -> None:
    first = site.serve()
    site.ask("GET", "/healthz")
    first.stop()
    second = HttpServer(create_app(Health(), Metrics()), "127.0.0.1", first.port)
    second.start()
    second.stop()


def test_ipv6_wildcard_answers_on_both_families() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    server = HttpServer(create_app(Health(), Metrics()), "::", 0)
    server.start()
    try:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, server.port), timeout=5).close()
    finally:
        server.stop()


def test_stop_lets_a_request_finish(site: Site) -> None:
    slow, answers = Slow(), []
    server = site.serve(slow.route())
    asker = threading.Thread(target=lambda: answers.append(site.ask("GET", "/slow")))
    asker.start()
    slow.begun.wait(5)
    stopper = threading.Thread(target=server.stop, args=(5.0,))
    stopper.start()
    eventually(lambda: not accepts(server.port))
    slow.let.set()
    stopper.join()
    asker.join()
    assert answers[0].status == 200
    assert not server.alive


def test_stop_ends_one_that_does_not(site: Site) -> None:
    slow = Slow()
    server = site.serve(slow.route())
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        slow.begun.wait(5)
        with Stopwatch() as idle:
            server.stop(0.2)
        assert not server.alive
        assert idle.seconds < 1
        assert slow.cancelled.is_set()
        assert client.recv(4096).startswith(b"HTTP/1.1 503 ")


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def test_headers_beyond_the_limit_are_refused(site: Site) -> None:
    assert site.ask("GET", "/healthz", X_Long="x" * 8_000).status == 200
    assert site.ask("GET", "/healthz", X_Long="x" * 20_000).status == 431


def test_headers_without_an_end_are_not_collected(site: Site) -> None:
    with closing(socket.create_connection(("127.0.0.1", site.serve().port), timeout=5)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 40_000)
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost:", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET"]
)
def test_a_connection_without_a_complete_request_is_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.2)
    server = site.serve()
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)) as client:
        client.sendall(sent)
        while client.recv(4096):
            pass


def test_an_answer_may_take_longer_than_a_request(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    slow, answers = Slow(), []
    site.serve(slow.route())
    asker = threading.Thread(target=lambda: answers.append(site.ask("GET", "/slow")))
    asker.start()
    slow.begun.wait(5)
    elapsed = threading.Event()
    threading.Timer(0.2, elapsed.set).start()
    elapsed.wait(5)
    slow.let.set()
    asker.join()
    assert answers[0].status == 200


def test_the_thread_is_a_daemon_and_signals_are_left_alone(site: Site) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    site.serve()
    assert all(thread.daemon for thread in http_threads())
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_server_starts_once(site: Site) -> None:
    server = site.serve()
    with pytest.raises(RuntimeError, match="started before"):
        server.start()


def test_a_server_that_cannot_start_says_so() -> None:
    server = HttpServer("no.such:application", "127.0.0.1", 0)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="did not start"):
        server.start()
    assert not server.alive


def test_nothing_is_written_on_its_own_account(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    site.serve()
    site.ask("GET", "/healthz?token=canary")
    assert "canary" not in caplog.text


PROGRAM = """
import sys, threading
from jobqueue.observe.metrics import Metrics
from jobqueue.web.app import create_app
from jobqueue.web.health import Health
from jobqueue.web.http_server import HttpServer
health = Health()
health.add_readiness("hangs", threading.Event().wait)
server = HttpServer(create_app(health, Metrics()), "127.0.0.1", 0)
server.start()
print(server.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.extended
def test_neither_the_server_nor_a_hanging_check_keeps_the_process() -> None:
    source = str(Path(module.__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as client:
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")
            assert b"503" in client.recv(64)
        process.communicate(timeout=10)
        assert process.returncode == 0
