"""Downloads one file over HTTP under limits of size, time and rate, and hashes it on the way.

A download resumes a broken body where the server makes that safe: the server must have given a strong validator, which
goes out as `If-Range`, so that a file that changed in between comes whole (RFC 9110 sections 13.1.5, 14 and 15.3.7). It
never follows a redirect, for the request carries a secret. Whatever goes wrong becomes Permanent or Retry, with one
sentence that holds no address beyond the host's name.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

import urllib3
from urllib3 import exceptions as faults

from jobqueue.errors import Permanent, Retry
from jobqueue.net.download_limits import Watch
from jobqueue.net.http_answers import Wording, check_plain, refusal, validator
from jobqueue.net.http_pool import describe, host_of, replacing_stale, while_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from urllib3 import BaseHTTPResponse

    from jobqueue.net.download_limits import DownloadLimits

# Bytes that a reader takes at once when it holds pieces of several bodies in memory.
CHUNK_BYTES = 256 * 1024

# Bytes that a download takes at once, up to their next multiple in the file: the page cache takes whole pages faster than
# parts of them, and each piece costs system calls and hand-overs of the interpreter. From a fast peer over plain HTTP,
# fetching takes an eighth less processor time than with 256 KiB; larger pieces save no more.
PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that came whole: its size in bytes, its SHA-256 in hex, and how often the download resumed."""

    path: Path
    size_bytes: int
    sha256: str
    resumed: int


def download(
    pool: urllib3.PoolManager,
    url: str,
    headers: Mapping[str, str],
    target: Path,
    limits: DownloadLimits,
    *,
    checkpoint: Callable[[], None] = lambda: None,
    on_bytes: Callable[[int], object] = lambda _count: None,
    wording: Wording | None = None,
) -> Downloaded:
    """GET `url` into the file `target`, and replace what is there. `pool` must come from `jobqueue.net.http_pool.pool`.

    `checkpoint` is called for each piece of at most 1 MiB and every tenth of a second without one; what it raises ends
    the download and closes its connection. `on_bytes` gets the size of each piece that came over the wire. Their sum
    counts traffic, with the pieces that a restart discards. After an error the content of `target` is undefined.

    The download verifies a length wherever the server states one. Without Content-Length or chunks it takes the end of
    the connection for the end of the file, since HTTP leaves nothing else.

    Raises Permanent for a redirect, a refusal (4xx), a compressed answer and a file over `max_bytes` (before its body
    when the length is known); Retry for everything that may pass, with `after` from Retry-After.
    """
    words = wording or Wording(peer=host_of(url))
    watch = Watch(limits, words.peer, checkpoint)
    with _PartialFile(target) as file, while_waiting(watch.waiting):
        transfer = _Transfer(pool, url, headers, limits, words, watch, on_bytes, file)
        transfer.run()
    return Downloaded(target, file.size, file.sha256.hexdigest(), transfer.resumes)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Retry(f"a download could not be written to the temporary folder: {error.strerror}") from error


class _PartialFile:
    """The part of the file that has come, and its digest. Every method raises Retry when the disk does not take it."""

    def __init__(self, target: Path) -> None:
        with _writing():
            # Pieces are large already: a buffer would only copy them once more.
            self._file = target.open("wb", buffering=0)
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with _writing():
            self._file.close()

    def restart(self) -> None:
        with _writing():
            self._file.seek(0)
            self._file.truncate()
        self._begin()

    def _begin(self) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()

    def append(self, data: bytes) -> None:
        with _writing():
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        self.sha256.update(data)
        self.size += len(data)


class _Transfer:
    """The requests that one download takes, until the file is whole."""

    def __init__(
        self,
        pool: urllib3.PoolManager,
        url: str,
        headers: Mapping[str, str],
        limits: DownloadLimits,
        words: Wording,
        watch: Watch,
        on_bytes: Callable[[int], object],
        file: _PartialFile,
    ) -> None:
        self._pool = pool
        self._url = url
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._limits = limits
        self._words = words
        self._watch = watch
        self._on_bytes = on_bytes
        self._file = file
        # Small enough that a slowed download pauses for an eighth of a second at most.
        self._piece = PIECE_BYTES if limits.max_rate is None else min(PIECE_BYTES, int(limits.max_rate / 8) + 1)
        self._total: int | None = None
        self._validator: str | None = None
        self._trust_ranges = True
        self._whole = False
        self.resumes = 0

    def run(self) -> None:
        while not self._whole:
            offset = self._file.size
            response = self._request(offset)
            try:
                if self._accept(response, offset):
                    self._receive(response)
            finally:
                # Closing alone would keep the place in the pool: after a few refusals nobody could download any more.
                response.close()
                response.release_conn()

    def _request(self, offset: int) -> BaseHTTPResponse:
        headers = self._headers
        if offset and self._validator:
            headers = {**headers, "Range": f"bytes={offset}-", "If-Range": self._validator}
        limits = self._limits

        def ask() -> BaseHTTPResponse:
            self._watch.begin_request()
            return self._pool.request(
                "GET",
                self._url,
                headers=headers,
                preload_content=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=limits.connect_seconds, read=limits.read_seconds),
                pool_timeout=limits.read_seconds,
            )

        try:
            return replacing_stale(ask)
        except faults.LocationValueError as error:
            raise Permanent(f"{self._words.peer} cannot be asked: its address is not a valid one") from error
        except faults.HTTPError as error:
            raise Retry(describe(error, self._words.peer)) from error

    def _accept(self, response: BaseHTTPResponse, offset: int) -> bool:
        """Whether the body of this answer continues the file, from `offset` or from its start."""
        if response.status == HTTPStatus.OK:
            self._start_over(response)
            return True
        if offset and response.status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            return self._continue(response, offset)
        raise refusal(response, self._url, self._words)

    def _start_over(self, response: BaseHTTPResponse) -> None:
        peer = self._words.peer
        check_plain(response, self._words)
        length = response.headers.get("Content-Length")
        if "chunked" in response.headers.get("Transfer-Encoding", "").lower():
            length = None
        if length is not None and not re.fullmatch("[0-9]{1,18}", length):
            raise Retry(f"{peer} stated a length that is not a number")
        self._total = None if length is None else int(length)
        self._check_size(self._total or 0)
        self._validator = validator(response) if self._trust_ranges else None
        if self._file.size:
            self._file.restart()

    def _continue(self, response: BaseHTTPResponse, offset: int) -> bool:
        """Whether the body is the rest of the file from `offset`. If not, the file is whole or starts over."""
        answered = response.headers.get("Content-Range", "")
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            check_plain(response, self._words)
            match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", answered)
            same = "ETag" not in response.headers or validator(response) == self._validator
            if same and match and int(match[1]) == offset and self._total in (None, int(match[2])):
                self._total = int(match[2])
                self._check_size(self._total)
                return True
        elif answered == f"bytes */{offset}" and self._total in (None, offset):
            self._whole = True
            return False
        # The peer breaks the rules of ranges, or the file changed: take it from the start, and as one piece.
        self._trust_ranges = False
        self._validator = None
        self._file.restart()
        return False

    def _receive(self, response: BaseHTTPResponse) -> None:
        self._watch.begin_body()
        try:
            while data := response.read1(self._piece - self._file.size % self._piece, decode_content=False):
                self._watch.received(len(data))
                self._on_bytes(len(data))
                self._check_size(self._file.size + len(data))
                self._file.append(data)
                self._watch.before_more()
        except (faults.ProtocolError, faults.SSLError) as error:
            self._resume_after(describe(error, self._words.peer))
            return
        except faults.HTTPError as error:
            raise Retry(describe(error, self._words.peer)) from error
        if self._total is None or self._file.size == self._total:
            self._whole = True
        elif self._file.size < self._total:
            self._resume_after(f"{self._words.peer} sent a part only")
        else:
            raise Retry(f"{self._words.peer} sent more than the {self._total} bytes it had stated")

    def _resume_after(self, fault: str) -> None:
        """Return when the rest may be asked for; otherwise raise Retry with `fault`."""
        of_total = "" if self._total is None else f" of {self._total}"
        fault = f"{fault}, after {self._file.size}{of_total} bytes"
        if self._validator is None:
            raise Retry(f"{fault}; it does not offer to resume")
        if self.resumes >= self._limits.max_resumes:
            raise Retry(f"{fault}, resumed {self.resumes} times")
        self.resumes += 1

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise Permanent(
                f"the file at {self._words.peer} is larger than {self._words.size_limit} of {self._limits.max_bytes} bytes"
            )
