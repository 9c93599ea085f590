"""Posts one request to a receiver, in ten seconds at most, and tells what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from typing import TYPE_CHECKING, Final, Literal

import urllib3
from urllib3 import exceptions as faults
from urllib3.exceptions import HTTPError

from jobqueue.net.address_guard import Refused, guarded_pool
from jobqueue.net.http_pool import CONNECT_SECONDS, describe, host_of, replacing_stale, retry_after, while_waiting
from jobqueue.net.peer_clock import PeerClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3 import BaseHTTPResponse

    from jobqueue.net.address_guard import Guard

# Seconds for everything: looking the name up, connecting, sending, and the answer. Not for the checkpoint of the caller.
TOTAL_SECONDS: Final = 10.0

# Bytes of an answer that are kept; no more of it is read.
MOST_KEPT: Final = 10 * 1024

Trouble = Literal["refused", "timeout", "tls", "unreachable"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver answered. `body` is the first 10 KiB; `asked` is its Retry-After in seconds, from 0 to 6 hours."""

    status: int
    body: str
    seconds: float
    asked: float | None
    words: str


class NoAnswer(Exception):
    """No answer came. The message is a sentence without secrets that says why; `seconds` is how long it took to find out."""

    def __init__(self, trouble: Trouble, message: str, seconds: float) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.seconds = seconds


class _TooLate(Exception):
    """The whole exchange took longer than it may."""


class Poster:
    """Sends requests through `guard`. Safe to use from many threads. Keeps up to `connections` open to each endpoint."""

    def __init__(self, guard: Guard, *, connections: int, total_seconds: float = TOTAL_SECONDS) -> None:
        self._guard = guard
        self._pool = guarded_pool(guard, maxsize=connections)
        self._total = total_seconds

    def post(self, url: str, body: bytes, headers: Mapping[str, str], checkpoint: Callable[[], None]) -> Answer:
        """Send `body` and return the answer, whatever its status. Follows no redirect.

        It is sent once, and again only where a connection that was kept open turns out to be closed. `checkpoint` is
        called several times a second meanwhile; whatever it raises ends the request, and the time that it takes is not the
        receiver's. Raises NoAnswer.
        """
        clock = PeerClock(checkpoint)
        began = clock.now()
        peer = f"the endpoint {host_of(url)}"

        def waiting() -> None:
            clock.checkpoint()
            if clock.now() - began > self._total:
                raise _TooLate

        def unanswered(trouble: Trouble, message: str) -> NoAnswer:
            return NoAnswer(trouble, message, clock.now() - began)

        try:
            self._guard.check_url(url)
            with while_waiting(waiting):
                response = replacing_stale(lambda: self._request(url, body, headers, clock, began))
                return self._read(response, clock, began)
        except Refused as error:
            raise unanswered("refused", f"{peer} is not called: {error}") from None
        except _TooLate:
            raise unanswered("timeout", f"{peer} did not answer within {self._total:g} s") from None
        except faults.NewConnectionError as error:
            # For urllib3 a refused connection and an unknown name are kinds of ConnectTimeoutError.
            raise unanswered("unreachable", describe(error, peer)) from error
        except (faults.ConnectTimeoutError, faults.ReadTimeoutError) as error:
            raise unanswered("timeout", describe(error, peer)) from error
        except faults.SSLError as error:
            raise unanswered("tls", describe(error, peer)) from error
        except HTTPError as error:
            raise unanswered("unreachable", describe(error, peer)) from error

    def close(self) -> None:
        """Close connections that are kept open."""
        self._pool.clear()

    def _request(
        self, url: str, body: bytes, headers: Mapping[str, str], clock: PeerClock, began: float
    ) -> BaseHTTPResponse:
        left = max(0.1, self._total - (clock.now() - began))
        return self._pool.urlopen(
            "POST",
            url,
            redirect=False,
            retries=False,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=left),
            preload_content=False,
            decode_content=False,
        )

    def _read(self, response: BaseHTTPResponse, clock: PeerClock, began: float) -> Answer:
        """Read as much of the body as is kept. The status is the answer, even where the body does not come to its end."""
        kept = bytearray()
        whole = False
        try:
            while len(kept) <= MOST_KEPT and not whole:
                piece = response.read1(MOST_KEPT + 1 - len(kept))
                kept += piece
                whole = not piece
        except (_TooLate, HTTPError):
            whole = False
        finally:
            if whole:
                response.release_conn()
            else:
                response.close()
        headers = response.headers
        return Answer(
            response.status,
            bytes(kept[:MOST_KEPT]).decode(errors="replace").replace("\0", ""),
            clock.now() - began,
            retry_after(headers.get("Retry-After"), headers.get("Date")),
            _words(response),
        )


def _words(response: BaseHTTPResponse) -> str:
    """The status in words for a person. Of a redirect's target they name only the host."""
    words = f"{response.status} {responses.get(response.status, '')}".rstrip()
    location = response.headers.get("Location")
    if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
        target = f", to {host_of(location)}" if location and "//" in location else ""
        return f"{words}{target}: redirects are not followed"
    return words
