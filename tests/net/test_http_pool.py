from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.http_server import FaultyServer, Request, Wire, reply

from jobqueue.net.http_pool import RETRY_AFTER_MAX_SECONDS, host_of, http_date, pool, retry_after, while_waiting


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("1.5", 1.5),
        ("21600", 21600),
        ("21601", 21600),
        ("9" * 5000, 21600),
        ("-1", None),
        ("", None),
        ("NaN", None),
        ("١٢", None),
        ("tomorrow", None),
        ("Thu, 99 Jan 2026 00:00:00 GMT", None),
        (None, None),
    ],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    soon = format_datetime(datetime.fromtimestamp(time.time() + 100, UTC), usegmt=True)
    assert retry_after(soon) == pytest.approx(100, abs=2)
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:27:00 GMT") == 60
    assert retry_after("Wed, 21 Oct 2099 07:28:00 GMT") == RETRY_AFTER_MAX_SECONDS
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", "nonsense") == 0


@given(st.text() | st.from_regex(r"\A\w{3}, \d{1,3} \w{3} \d{1,6} \d\d:\d\d:\d\d [-+\w]*\Z"))
def test_retry_after_takes_anything(value: str) -> None:
    seconds = retry_after(value, value)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX_SECONDS


def test_http_date() -> None:
    assert http_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
    assert http_date("Sunday") is None
    assert http_date(None) is None


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://user:secret@raid.example.com/path?token=secret", "raid.example.com"),
        ("http://127.0.0.1:9000", "127.0.0.1:9000"),
        ("http://[::1]:80/x", "[::1]:80"),
        ("http://[::1", "an unreadable address"),
        ("http://host:port/", "an unreadable address"),
        ("secret", "an unreadable address"),
        ("", "an unreadable address"),
    ],
)
def test_host_of(url: str, host: str) -> None:
    assert host_of(url) == host


def test_calls_while_waiting_end_with_their_block() -> None:
    def late(request: Request, wire: Wire) -> None:
        assert called.wait(5)
        reply(200, b"x")(request, wire)

    def slow(_request: Request, wire: Wire) -> None:
        wire.drip(b"HT", every=0.15)
        wire.send(b"TP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    def forbidden() -> None:
        raise AssertionError("called outside of its block")

    called = threading.Event()
    connections = pool(1)
    with FaultyServer(late, slow, slow) as server:
        with while_waiting(forbidden):
            with while_waiting(called.set):
                assert connections.request("GET", server.url).data == b"x"
            with pytest.raises(AssertionError, match="outside"):
                connections.request("GET", server.url)
        assert connections.request("GET", server.url).data == b"x"
    connections.clear()


def test_threads_wait_for_a_free_connection() -> None:
    def hold(request: Request, wire: Wire) -> None:
        entered.release()
        release.wait(5)
        reply(200)(request, wire)

    entered = threading.Semaphore(0)
    release = threading.Event()
    connections = pool(2)
    with FaultyServer(hold) as server:
        threads = [threading.Thread(target=connections.request, args=("GET", server.url)) for _ in range(6)]
        for thread in threads:
            thread.start()
        assert entered.acquire(timeout=5)
        assert entered.acquire(timeout=5)
        release.set()
        for thread in threads:
            thread.join()
        assert server.connections == 2
        assert len(server.requests) == 6
    connections.clear()
