"""HTTP as it is spoken: one table of answers, and what each client of ours makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from tests.support.http_server import FaultyServer, Request, Wire
from urllib3.exceptions import HTTPError

from jobqueue.errors import Retry
from jobqueue.net.address_guard import Guard
from jobqueue.net.http_pool import describe, pool
from jobqueue.origin.origin_client import OriginClient
from jobqueue.storage.objects import Objects
from jobqueue.webhooks.posting import NoAnswer, Poster

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.http_server import Answer

BODY = b"0123456789"
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: "1"\r\n\r\n' + BODY
CHUNKED = b"a\r\n0123456789\r\n0\r\n\r\n"

WHOLE = "whole"


def many(lines: int) -> bytes:
    return b"".join(b"X-Line-%d: x\r\n" % number for number in range(lines))


# What is sent, whether the connection ends behind it, and what comes of it: the whole body, or what the error says.
TABLE: dict[str, tuple[bytes, bool, str]] = {
    "plain": (OK, False, WHOLE),
    "100 unasked": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, False, WHOLE),
    "103 before it": (b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + OK, False, WHOLE),
    "102, 103, 103": (b"HTTP/1.1 102 P\r\n\r\n" + b"HTTP/1.1 103 E\r\nLink: <a>\r\n\r\n" * 2 + OK, False, WHOLE),
    "1xx without end": (b"HTTP/1.1 102 P\r\n\r\n" * 30 + OK, True, "its answer is not proper HTTP"),
    "HTTP/1.0 to its end": (b"HTTP/1.0 200 OK\r\nETag: \"1\"\r\n\r\n" + BODY, True, WHOLE),
    "LF alone": (OK.replace(b"\r\n", b"\n"), False, WHOLE),
    "90 header lines": (OK.replace(b"ETag", many(90) + b"ETag"), False, WHOLE),
    "150 header lines": (OK.replace(b"ETag", many(150) + b"ETag"), True, "its answer is not proper HTTP"),
    "chunked, and a length": (
        OK.replace(b"ETag", b"Transfer-Encoding: chunked\r\nETag").replace(BODY, CHUNKED), False, WHOLE,
    ),
    "aws-chunked": (OK.replace(b"ETag", b"Content-Encoding: aws-chunked\r\nETag"), False, WHOLE),
    "more than its length": (OK + b"garbage behind it", False, WHOLE),
    "an answer that nobody asked for behind it": (OK + OK.replace(BODY, b"another..."), False, WHOLE),
}  # fmt: skip


Ask = Callable[[], bytes]


@contextmanager
def origin(url: str, folder: Path) -> Iterator[Ask]:
    client = OriginClient(url, "secret", pool_size=1)
    path = folder / "file"

    def ask() -> bytes:
        client.fetch("a.jpg", path)
        return path.read_bytes()

    yield ask
    client.close()


@contextmanager
def receiver(url: str, _folder: Path) -> Iterator[Ask]:
    poster = Poster(Guard([ip_network("127.0.0.0/8")], allow_http=True), connections=1, total_seconds=20.0)
    # Of what a receiver says nothing is kept but its status.
    yield lambda: BODY if poster.post(url, b"{}", {}, lambda: None).status == 200 else b""
    poster.close()


@contextmanager
def store(url: str, _folder: Path) -> Iterator[Ask]:
    objects = Objects(url, "key", "secret-key", "pictures", "us-east-1", attempts=1)
    yield lambda: objects.get("a")
    objects.close()


@contextmanager
def backend(url: str, _folder: Path) -> Iterator[Ask]:
    http = pool(1)

    def ask() -> bytes:
        try:
            return http.request("GET", url).data
        except HTTPError as error:
            raise Retry(describe(error, "the backend")) from error

    yield ask
    http.clear()


PEERS = {"origin": origin, "receiver": receiver, "store": store, "backend": backend}

# boto3 reads over 100 alone; any other is a failure that passes.
OF_A_STORE = dict.fromkeys(("103 before it", "102, 103, 103", "1xx without end"), r"could not take the request \(502\)")


def spoken(data: bytes, closes: bool) -> Answer:
    def answer(_request: Request, wire: Wire) -> None:
        wire.send(data)
        if closes:
            wire.close()

    return answer


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize("peer", PEERS)
def test_an_answer_and_the_next_on_the_same_connection(row: str, peer: str, tmp_path: Path) -> None:
    data, closes, outcome = TABLE[row]
    if peer == "store":
        outcome = OF_A_STORE.get(row, outcome)
    with FaultyServer(spoken(data, closes)) as server, PEERS[peer](server.url, tmp_path) as ask:
        for _ in range(2):
            if outcome is WHOLE:
                assert ask() == BODY
            else:
                with pytest.raises((Retry, NoAnswer), match=outcome):
                    ask()
