"""What the head of an HTTP answer means: the error it stands for, and whether its body could be resumed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import responses
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from jobqueue.errors import JobError, Permanent, Retry
from jobqueue.net.http_pool import host_of, http_date, retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import BaseHTTPResponse

# These pass although they are no fault of the server: not ready yet, timed out, too early, too many.
_PASSING = frozenset({202, 408, 425, 429})


# Codings that make other bytes of a file. Other words change none: stores repeat `aws-chunked`, which describes how a file
# was once sent to them, and people set `utf-8`.
_COMPRESSIONS = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd", "dcb", "dcz"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The caller's words in error messages.

    `peer` is who was asked, `size_limit` the setting behind a limit of size. `refusals` holds, by status, the whole
    sentence for an answer that no further attempt can change.
    """

    peer: str
    size_limit: str = "the limit"
    refusals: Mapping[int, str] = field(default_factory=dict)


def refusal(response: BaseHTTPResponse, url: str, words: Wording) -> JobError:
    """The error for an answer to `url` that is not what was asked for.

    It is Retry for 5xx and the few others that pass, with Retry-After as `after`; Permanent for the rest. It names only
    the host of a redirect's target, and never the server's own reason phrase, which may repeat what we sent.
    """
    status, peer = response.status, words.peer
    answer = f"{status} {responses.get(status, '')}".rstrip()
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        after = retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
        wish = "" if after is None else f" and asks to wait {after:.0f} s"
        return Retry(f"{peer} answered {answer}{wish}", after)
    if status in words.refusals:
        return Permanent(words.refusals[status])
    location = response.headers.get("Location")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and location is not None:
        return Permanent(f"{peer} answered {answer}, to {_host_of_target(url, location)}: redirects are not followed")
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return Permanent(f"{peer} refused our credentials ({status})")
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return Permanent(f"{peer} does not have the file ({status})")
        case _:
            return Permanent(f"{peer} answered {answer} instead of the file")


def _host_of_target(url: str, location: str) -> str:
    try:
        return host_of(urljoin(url, location))
    except ValueError:
        return "an unreadable address"


def check_plain(response: BaseHTTPResponse, words: Wording) -> None:
    """Raise Permanent for a compressed body, whole or a range of it: if we decompressed, its sender would choose its size."""
    for coding in response.headers.get("Content-Encoding", "").lower().split(","):
        if coding.strip() in _COMPRESSIONS:
            raise Permanent(f"{words.peer} sent the file compressed ({coding.strip()}) although asked not to")


def validator(response: BaseHTTPResponse) -> str | None:
    """The If-Range to resume this body with; None when it cannot safely be resumed.

    That is a strong ETag, or else a modification date at least a second older than the answer: within that second the
    file might have changed twice (RFC 9110 sections 8.8.2.2 and 13.1.5).
    """
    headers = response.headers
    if headers.get("Accept-Ranges", "bytes").strip().lower() != "bytes":
        return None
    etag = headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):
        return etag
    modified, answered = http_date(headers.get("Last-Modified")), http_date(headers.get("Date"))
    if modified is not None and answered is not None and answered - modified >= 1:
        return headers["Last-Modified"]
    return None
