from __future__ import annotations

import gzip
import hashlib
import os
import socket
import threading
import time
import traceback
from email.utils import formatdate
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import pytest
from tests.support.http_server import (
    Answer,
    FaultyServer,
    Request,
    Wire,
    certificate_pem,
    chunked,
    file,
    hang,
    reply,
    reset,
    unsized,
)
from tests.support.outage import Outage
from tests.support.waiting import Stopwatch

from jobqueue.errors import JobError, LeaseLost, Permanent, Retry
from jobqueue.net.download import PIECE_BYTES, Downloaded, download
from jobqueue.net.download_limits import DownloadLimits
from jobqueue.net.http_pool import pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import urllib3

CANARY = "canary-5f1e0c"
NOW = formatdate(usegmt=True)
BODY = os.urandom(300_000)
PLAIN = DownloadLimits(max_bytes=1_000_000)
QUICK = DownloadLimits(min_rate=1000, rate_window_seconds=0.3, read_seconds=0.3)


@pytest.fixture
def connections() -> Iterator[urllib3.PoolManager]:
    manager = pool(2)
    yield manager
    manager.clear()


@pytest.fixture
def fetch(connections: urllib3.PoolManager, tmp_path: Path) -> Callable[..., Downloaded]:
    def call(server: FaultyServer, limits: DownloadLimits = PLAIN, **more: object) -> Downloaded:
        url = f"{server.url}/files?key=a&sig={CANARY}"
        headers = {"Authorization": f"Bearer {CANARY}"}
        return download(connections, url, headers, tmp_path / "file", limits, **more)  # type: ignore[arg-type]

    return call


def failure(fetch: Callable[..., Downloaded], *answers: Answer, limits: DownloadLimits = PLAIN) -> JobError:
    """The error that these answers lead to, which must be fit for an operator's eyes."""
    with FaultyServer(*answers) as server, pytest.raises((Permanent, Retry)) as caught:
        fetch(server, limits)
    text = "".join(traceback.format_exception(caught.value))
    assert CANARY not in text
    message = str(caught.value)
    assert f"127.0.0.1:{server.port}" in message
    assert "\n" not in message
    assert "/files" not in message
    return caught.value


def is_body(got: Downloaded, body: bytes) -> bool:
    return (got.path.read_bytes(), got.sha256, got.size_bytes) == (body, hashlib.sha256(body).hexdigest(), len(body))


def test_whole_file(fetch: Callable[..., Downloaded]) -> None:
    counted: list[int] = []
    checks: list[None] = []
    with FaultyServer(reply(200, BODY)) as server:
        got = fetch(server, checkpoint=lambda: checks.append(None), on_bytes=counted.append)
    assert is_body(got, BODY)
    assert got.resumed == 0
    assert sum(counted) == len(BODY)
    assert len(checks) > len(counted)
    request = server.requests[0]
    assert (request.method, request.target) == ("GET", f"/files?key=a&sig={CANARY}")
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.headers["accept-encoding"] == "identity"
    assert "range" not in request.headers


def test_pieces_are_bounded_and_end_at_multiples_of_their_bound(fetch: Callable[..., Downloaded]) -> None:
    counted: list[int] = []
    body = os.urandom(3 * PIECE_BYTES + 1000)
    with FaultyServer(reply(200, body)) as server:
        assert is_body(fetch(server, DownloadLimits(), on_bytes=counted.append), body)
    ends = list(accumulate(counted))
    for start, end in pairwise([0, *ends]):
        assert start // PIECE_BYTES == (end - 1) // PIECE_BYTES


@pytest.mark.parametrize(
    "answer",
    [
        chunked(BODY[:1], BODY[1:100_000], BODY[100_000:]),
        chunked(BODY, headers={"Content-Length": "7"}),
        unsized(BODY),
        reply(200, BODY, {"Content-Encoding": "aws-chunked"}),
        reply(200, BODY, {"Content-Encoding": "AWS-chunked, identity,utf-8"}),
    ],
    ids=["chunked", "chunked-with-length", "unsized", "odd-encoding", "odd-encodings"],
)
def test_other_framings(fetch: Callable[..., Downloaded], answer: Answer) -> None:
    with FaultyServer(answer) as server:
        assert is_body(fetch(server), BODY)


def test_empty_file_replaces_what_was_there(fetch: Callable[..., Downloaded], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with FaultyServer(reply(200)) as server:
        assert is_body(fetch(server), b"")


def test_connection_is_kept_for_the_next_download(fetch: Callable[..., Downloaded]) -> None:
    with FaultyServer(reply(200, BODY), chunked(BODY), reply(200, BODY)) as server:
        for _ in range(3):
            assert is_body(fetch(server), BODY)
        assert server.connections == 1


@pytest.mark.parametrize("status", [400, 402, 405, 418, 451, 204, 206, 304, 599 - 100])
def test_answers_that_stay(fetch: Callable[..., Downloaded], status: int) -> None:
    error = failure(fetch, reply(status, headers={"Retry-After": "7"}))
    assert isinstance(error, Permanent)
    assert f"answered {status}" in str(error)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "refused our credentials (401)"), (403, "refused our credentials (403)"), (404, "(404)"), (410, "(410)")],
)
def test_refusals(fetch: Callable[..., Downloaded], status: int, words: str) -> None:
    error = failure(fetch, reply(status, b"no"))
    assert isinstance(error, Permanent)
    assert words in str(error)


@pytest.mark.parametrize("status", [202, 408, 425, 429, 500, 502, 503, 504, 599])
def test_answers_that_pass(fetch: Callable[..., Downloaded], status: int) -> None:
    error = failure(fetch, reply(status))
    assert isinstance(error, Retry)
    assert f"answered {status}" in str(error)
    assert error.after is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17),
        ({"Retry-After": "999999999999"}, 6 * 3600),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_retry_after(fetch: Callable[..., Downloaded], headers: dict[str, str], seconds: float | None) -> None:
    error = failure(fetch, reply(429, headers=headers))
    assert isinstance(error, Retry)
    assert error.after == seconds
    assert ("asks to wait" in str(error)) == (seconds is not None)


def test_503_then_fine(fetch: Callable[..., Downloaded]) -> None:
    with FaultyServer(reply(503), reply(200, BODY)) as server:
        with pytest.raises(Retry):
            fetch(server)
        assert is_body(fetch(server), BODY)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_refused_and_names_the_host_only(fetch: Callable[..., Downloaded], status: int) -> None:
    location = f"https://user:{CANARY}@elsewhere.example:8443/deep?token={CANARY}"
    error = failure(fetch, reply(status, headers={"Location": location}))
    assert isinstance(error, Permanent)
    assert f"answered {status}" in str(error)
    assert "to elsewhere.example:8443: redirects are not followed" in str(error)
    assert "deep" not in str(error)


def test_redirect_is_not_followed(fetch: Callable[..., Downloaded]) -> None:
    with FaultyServer(reply(200, BODY)) as other:
        failure(fetch, reply(302, headers={"Location": f"{other.url}/stolen"}))
        assert other.requests == []


@pytest.mark.parametrize("location", ["/moved", "http://[broken", "http://\x01\x02/"])
def test_redirect_to_odd_places(fetch: Callable[..., Downloaded], location: str) -> None:
    assert "redirects are not followed" in str(failure(fetch, reply(302, headers={"Location": location})))


def test_hang_before_the_answer(fetch: Callable[..., Downloaded]) -> None:
    error = failure(fetch, hang, limits=QUICK)
    assert isinstance(error, Retry)
    assert "stalled: it sent nothing for 0.3 s" in str(error)


def test_hang_in_the_body(fetch: Callable[..., Downloaded]) -> None:
    def stop_halfway(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Length": "1000"})
        wire.send(b"x" * 500)
        wire.hang()

    limits = DownloadLimits(read_seconds=0.3, rate_window_seconds=9)
    error = failure(fetch, stop_halfway, limits=limits)
    assert isinstance(error, Retry)
    assert "stalled" in str(error)


def test_slow_drip_of_the_body(fetch: Callable[..., Downloaded]) -> None:
    def drip(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Length": "100000"})
        wire.drip(BODY, every=0.02)

    error = failure(fetch, drip, limits=QUICK)
    assert isinstance(error, Retry)
    assert "sends too slowly" in str(error)
    assert "at least 1000 are expected" in str(error)


def test_slow_drip_of_the_headers(fetch: Callable[..., Downloaded]) -> None:
    def drip(_request: Request, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\n")
        wire.drip(b"X-Long: " + b"y" * 1000, every=0.15)

    assert "stalled" in str(failure(fetch, drip, limits=QUICK))


def test_slow_drip_between_chunks(fetch: Callable[..., Downloaded]) -> None:
    def drip(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Transfer-Encoding": "chunked"})
        wire.send(b"5;")
        wire.drip(b"extension" * 1000, every=0.15)

    limits = DownloadLimits(rate_window_seconds=0.3)
    assert "sends too slowly" in str(failure(fetch, drip, limits=limits))


def test_fast_start_does_not_excuse_a_slow_rest(fetch: Callable[..., Downloaded]) -> None:
    def slow_down(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Length": "900000"})
        wire.send(BODY)
        wire.drip(BODY, every=0.02)

    assert "sends too slowly" in str(failure(fetch, slow_down, limits=QUICK))


def test_deadline(fetch: Callable[..., Downloaded]) -> None:
    def steady(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Length": "100000"})
        wire.drip(BODY, every=0.01)

    limits = DownloadLimits(total_seconds=0.3, min_rate=0)
    error = failure(fetch, steady, limits=limits)
    assert isinstance(error, Retry)
    assert "took longer than the 0.3 s" in str(error)


def test_waiting_of_ours_does_not_count_against_the_peer(fetch: Callable[..., Downloaded]) -> None:
    asked = threading.Event()
    ready = threading.Event()

    def in_two_parts(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Length": "1000"})
        wire.send(b"x" * 500)
        asked.wait()
        wire.send(b"x" * 500)
        ready.set()

    def busy(_count: int) -> None:
        if not asked.is_set():
            asked.set()
            ready.wait()
            threading.Event().wait(0.4)

    with FaultyServer(in_two_parts) as server:
        assert (
            fetch(server, DownloadLimits(min_rate=100_000, rate_window_seconds=0.3), on_bytes=busy).size_bytes == 1000
        )


HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500

# Each with what is sent before the checkpoint that takes longer than the limit.
SHORT_LIMITS = [
    pytest.param(DownloadLimits(total_seconds=0.5), b"", id="total"),
    pytest.param(DownloadLimits(total_seconds=0.5), HALF_AN_ANSWER, id="total, in the body"),
    pytest.param(DownloadLimits(read_seconds=0.5), b"", id="read"),
    pytest.param(DownloadLimits(read_seconds=0.5), HALF_AN_ANSWER, id="read, in the body"),
    pytest.param(DownloadLimits(rate_window_seconds=0.5), HALF_AN_ANSWER, id="rate, in the body"),
]


@pytest.mark.extended
@pytest.mark.parametrize(("limits", "start"), SHORT_LIMITS)
def test_a_checkpoint_longer_than_any_limit_does_not_count_against_the_peer(
    fetch: Callable[..., Downloaded], limits: DownloadLimits, start: bytes
) -> None:
    outage = Outage(1.0)

    def rest(request: Request, wire: Wire) -> None:
        wire.send(b"x" * 500) if start else reply(200, b"x" * 1000)(request, wire)

    with FaultyServer(outage.before(rest, start=start)) as server:
        assert is_body(fetch(server, limits, checkpoint=outage.checkpoint), b"x" * 1000)
        assert len(server.requests) == 1
    assert outage.over.is_set()


@pytest.mark.extended
@pytest.mark.parametrize(("limits", "start"), SHORT_LIMITS)
def test_a_peer_that_stays_silent_after_a_long_checkpoint_is_given_up(
    fetch: Callable[..., Downloaded], limits: DownloadLimits, start: bytes
) -> None:
    outage = Outage(1.0)
    with (
        FaultyServer(outage.before(hang, start=start)) as server,
        pytest.raises(Retry, match=r"stalled|took longer|too slowly"),
    ):
        fetch(server, limits, checkpoint=outage.checkpoint)
    assert outage.over.is_set()


def test_largest_rate(fetch: Callable[..., Downloaded]) -> None:
    began = time.monotonic()
    with FaultyServer(reply(200, BODY)) as server:
        assert is_body(fetch(server, DownloadLimits(max_rate=1_000_000)), BODY)
    assert time.monotonic() - began >= 0.29


def test_largest_rate_still_asks_the_caller(fetch: Callable[..., Downloaded]) -> None:
    def checkpoint() -> None:
        if len(came) > 0:
            raise LeaseLost("gone")

    came: list[int] = []
    with FaultyServer(reply(200, BODY)) as server, Stopwatch() as idle, pytest.raises(LeaseLost):
        fetch(server, DownloadLimits(max_rate=100, min_rate=1), checkpoint=checkpoint, on_bytes=came.append)
    assert idle.seconds < 2


@pytest.mark.parametrize("ends", [file(BODY), chunked(BODY)], ids=["with-length", "without"])
def test_size_at_the_limit_passes_and_one_more_does_not(fetch: Callable[..., Downloaded], ends: Answer) -> None:
    with FaultyServer(ends) as server:
        assert is_body(fetch(server, DownloadLimits(max_bytes=len(BODY))), BODY)
    error = failure(fetch, ends, limits=DownloadLimits(max_bytes=len(BODY) - 1))
    assert isinstance(error, Permanent)
    assert "larger than the limit of 299999 bytes" in str(error)


def test_oversize_by_its_length_is_refused_before_the_body(fetch: Callable[..., Downloaded], tmp_path: Path) -> None:
    def announce(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Length": "1000001"})
        wire.hang()

    with FaultyServer(announce) as server:
        with pytest.raises(Permanent, match="larger than the limit"):
            fetch(server)
        assert server.wires[0].left.wait(5)
    assert (tmp_path / "file").stat().st_size == 0


def test_endless_body_is_cut_off_at_the_limit(fetch: Callable[..., Downloaded], tmp_path: Path) -> None:
    def flood(_request: Request, wire: Wire) -> None:
        wire.head(200, {})
        while True:
            wire.send(BODY)

    assert isinstance(failure(fetch, flood), Permanent)
    assert (tmp_path / "file").stat().st_size <= PLAIN.max_bytes


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "identity, br", "zstd"])
def test_compressed_answer_is_refused(fetch: Callable[..., Downloaded], coding: str, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    error = failure(fetch, reply(200, bomb, {"Content-Encoding": coding}))
    assert isinstance(error, Permanent)
    assert "compressed" in str(error)
    assert (tmp_path / "file").stat().st_size == 0


def test_a_compressed_rest_is_refused(fetch: Callable[..., Downloaded]) -> None:
    where = {"Content-Range": f"bytes 1000-{len(BODY) - 1}/{len(BODY)}", "Content-Encoding": "gzip"}
    error = failure(fetch, file(BODY, cut=1000), reply(206, BODY[1000:], where))
    assert isinstance(error, Permanent)
    assert "compressed" in str(error)


@pytest.mark.parametrize("length", ["ten", "-5", "1e3"])
def test_senseless_length(fetch: Callable[..., Downloaded], length: str) -> None:
    assert isinstance(failure(fetch, reply(200, b"x" * 10, {"Content-Length": length})), Retry)


def test_cut_short_is_resumed(fetch: Callable[..., Downloaded]) -> None:
    counted: list[int] = []
    with FaultyServer(file(BODY, cut=100_000), file(BODY, cut=50_000), file(BODY)) as server:
        got = fetch(server, on_bytes=counted.append)
    assert is_body(got, BODY)
    assert got.resumed == 2
    assert sum(counted) == len(BODY)
    second, third = (request.headers for request in server.requests[1:])
    assert (second["range"], second["if-range"]) == ("bytes=100000-", '"v1"')
    assert (third["range"], third["if-range"]) == ("bytes=150000-", '"v1"')
    assert second["authorization"] == f"Bearer {CANARY}"


def test_reset_in_the_body_is_resumed(fetch: Callable[..., Downloaded]) -> None:
    taken = threading.Event()

    def break_off(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Length": str(len(BODY)), "ETag": '"v1"'})
        wire.send(BODY[:1000])
        taken.wait()
        wire.reset()

    with FaultyServer(break_off, file(BODY)) as server:
        got = fetch(server, on_bytes=lambda _count: taken.set())
    assert is_body(got, BODY)
    assert got.resumed == 1


def test_resumed_by_date(fetch: Callable[..., Downloaded]) -> None:
    old = {"Last-Modified": formatdate(1_000_000_000, usegmt=True)}
    with FaultyServer(file(BODY, etag=None, cut=9, headers=old), file(BODY, etag=None, headers=old)) as server:
        got = fetch(server)
    assert is_body(got, BODY)
    assert server.requests[1].headers["if-range"] == old["Last-Modified"]


def test_chunks_cut_short_are_resumed(fetch: Callable[..., Downloaded]) -> None:
    first = chunked(BODY[:7], BODY[7:70], end=False, headers={"ETag": '"v1"'})
    with FaultyServer(first, file(BODY)) as server:
        assert is_body(fetch(server), BODY)
    assert server.requests[1].headers["range"] == "bytes=70-"


def test_end_of_chunks_lost_is_no_loss(fetch: Callable[..., Downloaded]) -> None:
    with FaultyServer(chunked(BODY, end=False, headers={"ETag": '"v1"'}), file(BODY)) as server:
        assert is_body(fetch(server), BODY)


def test_file_changed_in_between_comes_whole(fetch: Callable[..., Downloaded]) -> None:
    new = BODY[::-1]
    with FaultyServer(file(BODY, cut=100_000), file(new, etag='"v2"')) as server:
        assert is_body(fetch(server), new)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        reply(206, BODY[99_999:], {"Content-Range": "bytes 99999-299999/300000", "ETag": '"v1"'}),
        reply(206, BODY[100_000:-1], {"Content-Range": "bytes 100000-299998/299999", "ETag": '"v1"'}),
        reply(206, BODY[100_000:], {"Content-Range": "bytes 100000-299999/300000", "ETag": '"v2"'}),
        reply(206, BODY[100_000:], {"Content-Range": "bytes 100000-299999/*"}),
        reply(206, BODY[100_000:]),
        reply(416, headers={"Content-Range": "bytes */5"}),
        reply(416),
    ],
    ids=["other-start", "other-total", "other-etag", "no-total", "no-range", "416-smaller", "416-bare"],
)
def test_wrong_range_starts_over_and_asks_for_none(fetch: Callable[..., Downloaded], wrong: Answer) -> None:
    with FaultyServer(file(BODY, cut=100_000), wrong, file(BODY)) as server:
        assert is_body(fetch(server), BODY)
    assert "range" not in server.requests[2].headers


def test_after_wrong_ranges_nothing_is_resumed(fetch: Callable[..., Downloaded]) -> None:
    error = failure(fetch, file(BODY, cut=1000), reply(416), file(BODY, cut=1000))
    assert "does not offer to resume" in str(error)


def test_short_range_is_resumed_in_turn(fetch: Callable[..., Downloaded]) -> None:
    part = reply(206, BODY[1000:2000], {"Content-Range": "bytes 1000-1999/300000", "ETag": '"v1"'})
    with FaultyServer(file(BODY, cut=1000), part, file(BODY)) as server:
        assert is_body(fetch(server), BODY)
    assert server.requests[2].headers["range"] == "bytes=2000-"


def test_range_with_too_much_in_it(fetch: Callable[..., Downloaded]) -> None:
    long = reply(206, BODY, {"Content-Range": "bytes 1000-299999/300000", "ETag": '"v1"'})
    error = failure(fetch, file(BODY, cut=1000), long)
    assert isinstance(error, Retry)
    assert "sent more than the 300000 bytes" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        file(BODY, etag='W/"v1"', cut=1000),
        file(BODY, etag=None, cut=1000),
        file(BODY, cut=1000, headers={"Accept-Ranges": "none"}),
        file(BODY, etag=None, cut=1000, headers={"Last-Modified": NOW, "Date": NOW}),
    ],
    ids=["weak", "no-validator", "no-ranges", "fresh-date"],
)
def test_cut_short_without_a_safe_way_to_resume(fetch: Callable[..., Downloaded], answer: Answer) -> None:
    error = failure(fetch, answer)
    assert isinstance(error, Retry)
    assert "closed in the middle of the answer, after 1000 of 300000 bytes" in str(error)


def test_resumes_come_to_an_end(fetch: Callable[..., Downloaded]) -> None:
    with FaultyServer(file(BODY, cut=1000)) as server:
        with pytest.raises(Retry, match="after 3000 of 300000 bytes, resumed 2 times"):
            fetch(server, DownloadLimits(max_resumes=2))
        assert len(server.requests) == 3


def test_refused_while_resuming(fetch: Callable[..., Downloaded]) -> None:
    assert isinstance(failure(fetch, file(BODY, cut=1000), reply(404)), Permanent)


def test_length_larger_than_the_body(fetch: Callable[..., Downloaded]) -> None:
    def overstate(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Length": "1000"})
        wire.send(b"x" * 999)
        wire.close()

    error = failure(fetch, overstate)
    assert isinstance(error, Retry)
    assert "after 999 of 1000 bytes" in str(error)


def test_reset_before_the_answer(fetch: Callable[..., Downloaded]) -> None:
    error = failure(fetch, reset)
    assert isinstance(error, Retry)
    assert "broke the connection" in str(error)


def test_kept_connection_that_broke_is_replaced_at_once(fetch: Callable[..., Downloaded]) -> None:
    with FaultyServer(reply(200, BODY), reset, reply(200, BODY)) as server:
        assert is_body(fetch(server), BODY)
        assert is_body(fetch(server), BODY)


def test_a_fresh_connection_that_is_closed_is_not_tried_twice(fetch: Callable[..., Downloaded]) -> None:
    with FaultyServer(reset, reply(200, BODY)) as server:
        with pytest.raises(Retry, match="broke the connection"):
            fetch(server)
        assert len(server.requests) == 1


def test_nobody_listens(fetch: Callable[..., Downloaded]) -> None:
    with FaultyServer(hang) as server:
        pass
    with pytest.raises(Retry, match="could not be reached: Connection refused"):
        fetch(server)


def test_unknown_host(connections: urllib3.PoolManager, tmp_path: Path) -> None:
    with pytest.raises(Retry, match=r"nowhere\.invalid could not be found"):
        download(connections, "https://nowhere.invalid/x?y=1", {}, tmp_path / "file", PLAIN)


@pytest.mark.parametrize("url", ["http://", "http://" + "a" * 64 + ".example/"])
def test_unusable_address(connections: urllib3.PoolManager, tmp_path: Path, url: str) -> None:
    with pytest.raises(Permanent, match="not a valid one"):
        download(connections, url, {}, tmp_path / "file", PLAIN)


def test_not_http(fetch: Callable[..., Downloaded]) -> None:
    def garbage(_request: Request, wire: Wire) -> None:
        wire.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        wire.close()

    error = failure(fetch, garbage)
    assert isinstance(error, Retry)
    assert "not proper HTTP" in str(error)


def test_untrusted_certificate(fetch: Callable[..., Downloaded]) -> None:
    with FaultyServer(reply(200, BODY), tls=True) as server:
        with pytest.raises(Retry, match="certificate that cannot be trusted: self-signed certificate"):
            fetch(server)
        assert server.requests == []


def test_plain_answer_where_tls_is_expected(connections: urllib3.PoolManager, tmp_path: Path) -> None:
    def answer_in_plain() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_in_plain)
        thread.start()
        with pytest.raises(Retry, match="could not be talked to over TLS: wrong version number"):
            download(connections, f"https://127.0.0.1:{listener.getsockname()[1]}/", {}, tmp_path / "file", PLAIN)
        thread.join()


def test_over_tls(fetch: Callable[..., Downloaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text(certificate_pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    def in_one_record(_request: Request, wire: Wire) -> None:
        # Head and body are decrypted together, and what was read of them with the head makes no socket readable.
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 15000\r\n\r\n" + BODY[:15_000])

    with FaultyServer(chunked(BODY[:9000], BODY[9000:]), in_one_record, hang, tls=True) as server:
        assert is_body(fetch(server), BODY)
        assert is_body(fetch(server, QUICK), BODY[:15_000])
        with pytest.raises(Retry, match="stalled"):
            fetch(server, QUICK)


@pytest.mark.parametrize("head_first", [True, False])
def test_caller_is_asked_during_a_hang_and_its_wish_closes_the_connection(
    fetch: Callable[..., Downloaded], head_first: bool
) -> None:
    def stop(_request: Request, wire: Wire) -> None:
        if head_first:
            wire.head(200, {"Content-Length": "10"})
            wire.send(b"x")
        reached.set()
        wire.hang()

    def checkpoint() -> None:
        if reached.is_set():
            raise LeaseLost("somebody else holds this job")

    reached = threading.Event()
    with FaultyServer(stop) as server:
        with pytest.raises(LeaseLost):
            fetch(server, DownloadLimits(), checkpoint=checkpoint)
        assert server.wires[0].left.wait(5)


def test_caller_is_asked_for_each_chunk(fetch: Callable[..., Downloaded]) -> None:
    def checkpoint() -> None:
        if sum(counted) > 100_000:
            raise LeaseLost("gone")

    def flood(_request: Request, wire: Wire) -> None:
        wire.head(200, {})
        try:
            while True:
                wire.send(BODY)
        except OSError:
            wire.left.set()

    counted: list[int] = []
    with FaultyServer(flood) as server:
        with pytest.raises(LeaseLost):
            fetch(server, DownloadLimits(max_bytes=2**40), checkpoint=checkpoint, on_bytes=counted.append)
        assert server.wires[0].left.wait(5)


def test_full_disk(connections: urllib3.PoolManager, tmp_path: Path) -> None:
    full = tmp_path / "file"
    full.symlink_to("/dev/full")
    with FaultyServer(reply(200, BODY)) as server, pytest.raises(Retry, match="No space left on device"):
        download(connections, server.url, {}, full, PLAIN)


@pytest.mark.parametrize(
    "contradiction",
    [{"total_seconds": 0}, {"read_seconds": -1}, {"max_bytes": -1}, {"max_rate": 10, "min_rate": 10}],
)
def test_limits_that_nothing_can_meet(contradiction: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="download"):
        DownloadLimits(**contradiction)  # type: ignore[arg-type]
