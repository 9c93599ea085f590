from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.http_server import FaultyServer, reply
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from jobqueue.demo.launch import free_port
from jobqueue.net import dialling
from jobqueue.net.dialling import dial
from jobqueue.net.http_pool import pool

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

STREAM = socket.SOCK_STREAM


def v4(port: int, host: str = "127.0.0.1") -> tuple[Any, ...]:
    return socket.AF_INET, STREAM, 6, "", (host, port)


def v6(port: int) -> tuple[Any, ...]:
    return socket.AF_INET6, STREAM, 6, "", ("::1", port, 0, 0)


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose listener takes no more connections: whoever dials it hears nothing, as from a black hole."""
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        # The kernel completes a connection or two on its own; what comes after is dropped.
        for _ in range(4):
            sock = socket.socket(socket.AF_INET6)
            sock.setblocking(False)
            sock.connect_ex(("::1", port))
            waiting.append(sock)
        yield port
        for sock in waiting:
            sock.close()


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer(reply(200)) as server:
        yield server


def to(host: str, port: int) -> HTTPConnection:
    return HTTPConnection(host, port, socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])


def test_an_address_that_says_nothing_does_not_keep_the_next_from_being_tried(
    silent: int, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    begin = dialling._begin

    def noting(entry: tuple[Any, ...], options: Any) -> socket.socket:
        begun.append(entry[0])
        return begin(entry, options)

    monkeypatch.setattr(dialling, "_begin", noting)
    host = f"both-{server.port}.test"
    for _ in range(2):
        with dial(to(host, server.port), [v6(silent), v4(server.port)], 30.0) as sock:
            assert sock.getpeername() == ("127.0.0.1", server.port)
            assert sock.gettimeout() == 30.0
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    # The second time the family that answered comes first, and nobody dials the other.
    assert begun == [socket.AF_INET6, socket.AF_INET, socket.AF_INET]


def test_a_family_that_stops_answering_gives_way(silent: int, server: FaultyServer) -> None:
    host = f"changing-{server.port}.test"
    dialling._families.remember(host, server.port, socket.AF_INET6)
    with dial(to(host, server.port), [v4(server.port), v6(silent)], 30.0) as sock:
        assert sock.family == socket.AF_INET
    assert dialling._families.of(host, server.port) == socket.AF_INET


def test_a_refusal_lets_the_next_address_begin_at_once(server: FaultyServer) -> None:
    closed = free_port()
    monkey = [v4(closed), v4(closed, "127.0.0.2"), v4(server.port)]
    with dial(to("refusing.test", server.port), monkey, 30.0) as sock:
        assert sock.getpeername()[1] == server.port


def test_what_comes_of_no_answer(silent: int) -> None:
    closed = free_port()
    with pytest.raises(NewConnectionError, match="no address accepted a connection"):
        dial(to("closed.test", closed), [v4(closed), v4(closed, "127.0.0.2")], 30.0)
    with pytest.raises(ConnectTimeoutError, match="in time") as caught:
        dial(to("silent.test", silent), [v6(silent)], 0.2)
    assert not isinstance(caught.value, NewConnectionError)
    with pytest.raises(ConnectTimeoutError, match="in time"):
        dial(to("mixed.test", silent), [v4(closed), v6(silent)], 0.2)
    with pytest.raises(ConnectTimeoutError, match="in time"):
        dial(to("late.test", closed), [v4(closed)], 0.0)


def test_families_take_turns() -> None:
    found = [v6(1), v6(2), v6(3), v4(4), v4(5)]
    assert [entry[4][1] for entry in dialling._in_turns(found, None)] == [1, 4, 2, 5, 3]
    assert [entry[4][1] for entry in dialling._in_turns(found, socket.AF_INET)] == [4, 1, 5, 2, 3]
    assert dialling._in_turns([], socket.AF_INET) == []


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "_MOST_REMEMBERED", 2)
    families = dialling._Families()
    for number in range(4):
        families.remember("h", number, socket.AF_INET)
    assert [families.of("h", number) for number in range(4)] == [None, None, socket.AF_INET, socket.AF_INET]


def test_a_name_is_looked_up_with_the_dot_at_its_end(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(host: str, *_: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [v4(server.port)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    http = pool(1)
    assert http.request("GET", f"http://origin.test.:{server.port}/").status == 200
    http.clear()
    assert asked == ["origin.test."]


@pytest.mark.servers
def test_a_dead_ipv6_address_costs_a_download_nothing(tmp_path: Path) -> None:
    """A black hole in a network of its own, beside the same origin without it."""
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", "--mount", sys.executable, "-m", "tests.net.black_hole", tmp_path],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    taken = json.loads(done.stdout)
    alone, both = (statistics.median(taken[host]) for host in ("alone.test", "both.test"))
    # A fifth more at most, where that is more than a busy machine's own unsteadiness.
    assert both < max(1.2 * alone, alone + 0.02)
    # Whoever waits for the dead address waits for five seconds.
    assert max(taken["both.test"]) < 5.0
