"""Reading from the origin: what is asked for again, what is taken for missing, and what for another file."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest
from tests.artifacts.helpers import MediaOrigin, noise
from tests.support.http_server import Answer, FaultyServer, Request, Wire, file, hang, reply, reset
from tests.support.outage import Outage

from jobqueue.backoff import Backoff
from jobqueue.errors import Interrupted, Permanent, Retry
from jobqueue.net import patience
from jobqueue.net.download_limits import DownloadLimits
from jobqueue.origin.origin_ranges import FileChanged, Measured, OriginRanges

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = noise(1, 700_000)
WHOLE = Measured(len(DATA), zlib.crc32(DATA))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_BACKOFF", Backoff(first=0.001, jitter=0.5))


@pytest.fixture
def origin() -> Iterator[MediaOrigin]:
    with MediaOrigin({"a": DATA, "empty": b""}) as origin:
        yield origin


def go_on() -> None:
    pass


def measure(source: OriginRanges, key: str = "a") -> tuple[Measured, bytes]:
    """What was measured, and the bytes as a caller that follows the offsets has them."""
    found = bytearray()

    def on_chunk(data: bytes, offset: int) -> None:
        del found[offset:]
        found.extend(data)

    return source.measure(key, checkpoint=go_on, on_chunk=on_chunk), bytes(found)


def read(source: OriginRanges, start: int, end: int, size: int = len(DATA), key: str = "a") -> bytes:
    pieces: list[bytes] = []
    source.read(key, start, end, size, checkpoint=go_on, sink=pieces.append)
    return b"".join(pieces)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(
    ("start", "end"), [(0, len(DATA)), (0, 1), (1, 2), (300_000, 600_001), (len(DATA) - 1, len(DATA))]
)
def test_any_range_is_read(origin: MediaOrigin, ranges: bool, start: int, end: int) -> None:
    origin.ranges = ranges
    assert read(origin.source(), start, end) == DATA[start:end]


@pytest.mark.parametrize("ranges", [True, False])
def test_whether_ranges_are_served_is_learnt_with_one_request(origin: MediaOrigin, ranges: bool) -> None:
    origin.ranges = ranges
    source = origin.source()
    assert [source.serves_ranges("a", len(DATA), checkpoint=go_on) for _ in range(3)] == [ranges] * 3
    assert origin.asked["a"] == 1


def test_files_are_measured(origin: MediaOrigin) -> None:
    source = origin.source()
    assert measure(source) == (WHOLE, DATA)
    assert measure(source, "empty") == (Measured(0, 0), b"")


@pytest.mark.parametrize("etag", ['"v1"', None], ids=["resumed", "from the start"])
def test_a_broken_measure_goes_on(etag: str | None) -> None:
    with FaultyServer(file(DATA, etag=etag, cut=300_000), file(DATA, etag=etag)) as server:
        assert measure(OriginRanges(server.url, "s", pool_size=2)) == (WHOLE, DATA)
    assert (server.requests[1].headers.get("range") is not None) is (etag is not None)


def test_a_file_that_changed_in_between_is_measured_from_the_start() -> None:
    other = noise(2, 650_000)
    with FaultyServer(file(DATA, etag='"v1"', cut=300_000), file(other, etag='"v2"')) as server:
        assert measure(OriginRanges(server.url, "s", pool_size=2)) == (Measured(len(other), zlib.crc32(other)), other)


@pytest.mark.parametrize("faults", [[reply(503)], [reset], [reply(429, headers={"Retry-After": "0"})] * 4])
def test_what_may_pass_is_tried_again(origin: MediaOrigin, faults: list[Answer]) -> None:
    for _ in range(2):
        origin.faults["a"] = list(faults)
        assert read(origin.source(), 10, 20_000) == DATA[10:20_000]
        origin.faults["a"] = list(faults)
        assert measure(origin.source())[0] == WHOLE


def test_a_checkpoint_longer_than_any_limit_costs_no_attempt() -> None:
    outage = Outage(1.0)
    limits = DownloadLimits(read_seconds=0.5, rate_window_seconds=0.5)
    with FaultyServer(outage.before(file(DATA))) as server:
        source = OriginRanges(server.url, "s", pool_size=1, limits=limits)
        found: list[bytes] = []
        source.read("a", 0, len(DATA), len(DATA), checkpoint=outage.checkpoint, sink=found.append)
        assert (b"".join(found), len(server.requests)) == (DATA, 1)
    assert outage.over.is_set()


def test_after_five_attempts_the_file_is_given_up(origin: MediaOrigin) -> None:
    origin.faults["a"] = [reply(503)] * 5
    with pytest.raises(Retry, match="503"):
        read(origin.source(), 0, 10)
    assert origin.asked["a"] == 5


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_refused_is_not_asked_for_again(origin: MediaOrigin, status: int) -> None:
    origin.faults["a"] = [reply(status)]
    with pytest.raises(Permanent, match=str(status)):
        measure(origin.source())
    assert origin.asked["a"] == 1


def test_refusals_use_up_no_connections(origin: MediaOrigin) -> None:
    source = OriginRanges(origin.endpoint, origin.secret, pool_size=1)
    for _ in range(5):
        origin.faults["a"] = [reply(404, b"a body that nobody reads" * 1000)]
        with pytest.raises(Permanent):
            measure(source)
    assert measure(source)[0] == WHOLE


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_another_size_is_another_file(origin: MediaOrigin, ranges: bool, size: int) -> None:
    origin.ranges = ranges
    for start, end in ((0, size), (5, 10)):
        with pytest.raises(FileChanged):
            read(origin.source(), start, end, size)
    with pytest.raises(FileChanged):
        origin.source().probe("a", size, checkpoint=go_on)


def test_a_compressed_file_is_refused(origin: MediaOrigin) -> None:
    origin.faults["a"] = [reply(200, b"x", {"Content-Encoding": "gzip"})]
    with pytest.raises(Permanent, match="compressed"):
        measure(origin.source())


@pytest.mark.parametrize("coding", ["aws-chunked", "aws-chunked,identity", "utf-8", ""])
def test_an_encoding_that_describes_the_transfer_or_nothing_changes_no_bytes(origin: MediaOrigin, coding: str) -> None:
    def answer(request: Request, wire: Wire) -> None:
        where = {"Content-Range": f"bytes 5-9/{len(DATA)}"} if "range" in request.headers else {}
        body = DATA[5:10] if where else DATA
        reply(206 if where else 200, body, {"Content-Encoding": coding, **where})(request, wire)

    origin.faults["a"] = [answer, answer, answer]
    source = origin.source()
    assert measure(source)[0] == WHOLE
    assert read(source, 5, 10) == DATA[5:10]
    assert read(source, 0, len(DATA)) == DATA


def test_a_range_of_a_compressed_file_is_refused(origin: MediaOrigin) -> None:
    where = {"Content-Range": f"bytes 5-9/{len(DATA)}", "Content-Encoding": "aws-chunked, gzip"}
    origin.faults["a"] = [reply(206, b"xxxxx", where)]
    with pytest.raises(Permanent, match="compressed"):
        read(origin.source(), 5, 10)


def test_a_dangerous_key_is_never_asked_for(origin: MediaOrigin) -> None:
    with pytest.raises(Permanent, match=r"\.\."):
        measure(origin.source(), "../etc/passwd")
    assert origin.asked.total() == 0


def test_a_silent_origin_is_left_when_the_caller_wants_to() -> None:
    count = 0

    def checkpoint() -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise Interrupted("stop")

    with FaultyServer(hang) as server, pytest.raises(Interrupted):
        OriginRanges(server.url, "s", pool_size=1).read("a", 0, 5, 5, checkpoint=checkpoint, sink=lambda _data: None)


def test_a_silent_origin_is_given_up() -> None:
    with FaultyServer(hang) as server:
        source = OriginRanges(server.url, "s", pool_size=1, limits=DownloadLimits(read_seconds=0.1))
        with pytest.raises(Retry, match=r"nothing for 0\.1 s"):
            source.probe("a", 5, checkpoint=go_on)
    assert len(server.requests) == 5
