"""The origin as artifacts read it: a file once to measure it, and then any range of it."""

from __future__ import annotations

import dataclasses
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import urllib3
from urllib3 import exceptions as faults

from jobqueue.errors import Permanent, Retry
from jobqueue.net.download import CHUNK_BYTES
from jobqueue.net.download_limits import DownloadLimits, Watch
from jobqueue.net.http_answers import check_plain, refusal, validator
from jobqueue.net.http_pool import describe, replacing_stale, while_waiting
from jobqueue.net.patience import patiently
from jobqueue.origin.origin_client import OriginClient, check_source_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from urllib3 import BaseHTTPResponse

# No single file takes longer than this, in seconds; slow ones are caught by their rate long before.
_LONGEST_SECONDS: Final = 12 * 3600.0


class FileChanged(Exception):
    """The file is not the one that was measured. Its recorded size and CRC no longer hold."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The size in bytes and the CRC-32 of a file that was read whole."""

    size: int
    crc32: int


class OriginRanges(OriginClient):
    """Reads files of the origin for artifacts, each with its own retries. Thread-safe.

    Every method calls `checkpoint` several times a second, and ends with whatever that raises. It raises Permanent when
    the file cannot be had, Retry when the retries are used up, FileChanged when it is not the file that was measured.
    """

    def __init__(self, endpoint: str, secret: str, *, pool_size: int, limits: DownloadLimits | None = None) -> None:
        super().__init__(
            endpoint, secret, limits=limits or DownloadLimits(total_seconds=_LONGEST_SECONDS), pool_size=pool_size
        )
        refusals = {
            **self._wording.refusals,
            400: f"the origin {self.host} does not accept this source_key (400): check project_media.source_key",
        }
        self._wording = dataclasses.replace(self._wording, refusals=refusals)
        self._ranges: bool | None = None

    def measure(self, key: str, *, checkpoint: Callable[[], None], on_chunk: Callable[[bytes, int], None]) -> Measured:
        """Read the whole file. `on_chunk` gets each piece with its offset; at offset 0 the file starts, maybe again."""
        check_source_key(key)
        measuring = _Measuring(on_chunk)
        patiently(lambda: self._measure(key, measuring, checkpoint), checkpoint, progress=lambda: measuring.size)
        return Measured(measuring.size, measuring.crc32)

    def read(
        self,
        key: str,
        start: int,
        end: int,
        size: int,
        *,
        checkpoint: Callable[[], None],
        sink: Callable[[bytes], None],
    ) -> None:
        """Give bytes `start` to `end` of a file of `size` bytes to `sink`, in order and each once."""
        check_source_key(key)
        position = start

        def pass_on(data: bytes) -> None:
            nonlocal position
            sink(data)
            position += len(data)

        def read_on() -> None:
            while position < end:
                self._read(key, position, end, size, checkpoint, pass_on)

        patiently(read_on, checkpoint, progress=lambda: position)

    def probe(self, key: str, size: int, *, checkpoint: Callable[[], None]) -> None:
        """Ask whether the file is there, without reading it."""
        check_source_key(key)
        patiently(lambda: self._probe(key, size, checkpoint), checkpoint)

    def serves_ranges(self, key: str, size: int, *, checkpoint: Callable[[], None]) -> bool:
        """Whether the origin serves ranges of a file, so that it may be read in pieces. Asks once, about `key`."""
        if self._ranges is None:
            self.probe(key, size, checkpoint=checkpoint)
        return self._ranges is True

    def _probe(self, key: str, size: int, checkpoint: Callable[[], None]) -> None:
        watch = Watch(self.limits, self._wording.peer, checkpoint)
        with self._answer(key, {"Range": "bytes=0-0"} if size else {}, watch) as response:
            self._check_answer(response, key, 0, size, ranged=size > 0)

    def _measure(self, key: str, measuring: _Measuring, checkpoint: Callable[[], None]) -> None:
        """Make one attempt, from where the last one ended if the origin makes that safe."""
        watch = Watch(self.limits, self._wording.peer, checkpoint)
        headers = {}
        if measuring.size and measuring.validator:
            headers = {"Range": f"bytes={measuring.size}-", "If-Range": measuring.validator}
        with self._answer(key, headers, watch) as response:
            if response.status == HTTPStatus.OK:
                check_plain(response, self._wording)
                measuring.begin(_length(response), validator(response))
            elif headers and response.status in (
                HTTPStatus.PARTIAL_CONTENT,
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            ):
                check_plain(response, self._wording)
                where = _content_range(response)
                if where is None or where != (measuring.size, measuring.total or where.total):
                    measuring.begin(None, None)
                    raise Retry(f"{self._wording.peer} answered another range than it was asked for")
                measuring.total = where.total
            else:
                raise refusal(response, self.url(key), self._wording)
            self._stream(response, watch, measuring.append)
        if measuring.total is not None and measuring.size != measuring.total:
            raise Retry(f"{self._wording.peer} sent {measuring.size} of {measuring.total} bytes")

    def _read(
        self,
        key: str,
        start: int,
        end: int,
        size: int,
        checkpoint: Callable[[], None],
        sink: Callable[[bytes], None],
    ) -> None:
        """Make one attempt at bytes `start` to `end`."""
        watch = Watch(self.limits, self._wording.peer, checkpoint)
        whole = start == 0 and end == size
        with self._answer(key, {} if whole else {"Range": f"bytes={start}-{end - 1}"}, watch) as response:
            skip = self._check_answer(response, key, start, size, ranged=not whole)
            left = end - start

            def pass_on(data: bytes) -> bool:
                nonlocal skip, left
                if skip:
                    skip, data = max(0, skip - len(data)), data[skip:]
                data = data[:left] if len(data) > left else data
                left -= len(data)
                if data:
                    sink(data)
                return left > 0

            self._stream(response, watch, pass_on)
        if left:
            raise Retry(f"{self._wording.peer} sent a part of the file only: {left} bytes are missing")

    def _check_answer(self, response: BaseHTTPResponse, key: str, start: int, size: int, *, ranged: bool) -> int:
        """How many bytes of the body come before `start`. Raises for a refusal, and for the answer of another file.

        From the answer to a `ranged` request it learns whether the origin serves ranges.
        """
        if response.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            check_plain(response, self._wording)
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            where = _content_range(response)
            if where is not None and where.total != size:
                raise FileChanged
            if where is None or where.first != start:
                self._ranges = False
                raise Retry(f"{self._wording.peer} answered another range than it was asked for")
            if self._ranges is None:
                self._ranges = True
            return 0
        if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise FileChanged
        if response.status != HTTPStatus.OK:
            raise refusal(response, self.url(key), self._wording)
        if _length(response) not in (None, size):
            raise FileChanged
        if ranged:
            self._ranges = False
        return start

    @contextmanager
    def _answer(self, key: str, headers: Mapping[str, str], watch: Watch) -> Iterator[BaseHTTPResponse]:
        """The answer to one request. Its connection is kept only if the body was read to the end."""
        peer, limits = self._wording.peer, self.limits
        with while_waiting(watch.waiting):

            def ask() -> BaseHTTPResponse:
                watch.begin_request()
                return self._pool.request(
                    "GET",
                    self.url(key),
                    headers={**self._headers, "Accept-Encoding": "identity", **headers},
                    preload_content=False,
                    redirect=False,
                    timeout=urllib3.Timeout(connect=limits.connect_seconds, read=limits.read_seconds),
                    pool_timeout=limits.read_seconds,
                )

            try:
                response = replacing_stale(ask)
            except faults.LocationValueError as error:
                raise Permanent(f"{peer} cannot be asked: its address is not a valid one") from error
            except faults.HTTPError as error:
                raise Retry(describe(error, peer)) from error
            try:
                yield response
            finally:
                response.close()
                # Closing alone would keep the pool one connection short forever.
                response.release_conn()

    def _stream(self, response: BaseHTTPResponse, watch: Watch, sink: Callable[[bytes], bool]) -> None:
        """Give the body to `sink` piece by piece, to its end or until `sink` returns False."""
        watch.begin_body()
        more = True
        try:
            # After the last byte one more read finds the end, and so keeps the connection for the next request.
            while (data := response.read1(CHUNK_BYTES, decode_content=False)) and more:
                watch.received(len(data))
                more = sink(data)
                watch.before_more()
        except faults.HTTPError as error:
            raise Retry(describe(error, self._wording.peer)) from error


class _Measuring:
    """What has come of a file so far."""

    def __init__(self, on_chunk: Callable[[bytes, int], None]) -> None:
        self._on_chunk = on_chunk
        self.begin(None, None)

    def begin(self, total: int | None, strong_validator: str | None) -> None:
        self.total = total
        self.validator = strong_validator
        self.size = 0
        self.crc32 = 0

    def append(self, data: bytes) -> bool:
        self._on_chunk(data, self.size)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.size += len(data)
        return True


def _length(response: BaseHTTPResponse) -> int | None:
    """The length in bytes that the answer states for its body; None when it states none."""
    if "chunked" in response.headers.get("Transfer-Encoding", "").lower():
        return None
    stated = response.headers.get("Content-Length", "")
    return int(stated) if re.fullmatch("[0-9]{1,18}", stated) else None


class _ContentRange(NamedTuple):
    """The first byte of a range and the size of its file. Both are the size when the range lies behind the end."""

    first: int
    total: int


def _content_range(response: BaseHTTPResponse) -> _ContentRange | None:
    stated = response.headers.get("Content-Range", "")
    if match := re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", stated):
        return _ContentRange(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"bytes \*/([0-9]{1,18})", stated):
        return _ContentRange(int(match[1]), int(match[1]))
    return None
