"""The origin of the source files: one authorised GET by `source_key`."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from jobqueue.errors import Permanent
from jobqueue.net.download import Downloaded, download
from jobqueue.net.download_limits import DownloadLimits
from jobqueue.net.http_answers import Wording
from jobqueue.net.http_pool import host_of, pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_KEY_BYTES = 1024

_SCHEME = re.compile(r"\s*[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def check_source_key(key: str) -> None:
    """Refuse a `source_key` that could mean anything but the name of a file below the origin's root.

    Judges the key as it stands, and as it reads with percent signs decoded once and twice: a server that decodes once
    too often must not be led elsewhere either. Raises Permanent with what is wrong, and does not repeat the key.
    """
    if not key:
        raise Permanent("source_key is empty")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Permanent("source_key holds half of a surrogate pair, which is no character") from None
    if size > MAX_KEY_BYTES:
        raise Permanent(f"source_key is {size} bytes long in UTF-8, more than {MAX_KEY_BYTES}")
    reading = key
    for _ in range(3):
        _check_reading(reading)
        decoded = unquote(reading, errors="replace")
        if decoded == reading:
            break
        reading = decoded


def _check_reading(key: str) -> None:
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in key):
        raise Permanent("source_key holds a control character")
    if "\\" in key:
        raise Permanent("source_key holds a backslash")
    if key.startswith("/"):
        raise Permanent("source_key starts with a slash")
    if _SCHEME.match(key):
        raise Permanent("source_key starts with a scheme such as http:, where only the key of a file may stand")
    if ".." in key.split("/"):
        raise Permanent("source_key has '..' in its path")


class OriginClient:
    """Fetches source files from `endpoint` (RAID_PUB_ENDPOINT), which may carry a path and a query of its own.

    Each request carries `secret` (RAID_PUBLISHER_SECRET, the value to send) as its bearer. Thread-safe; at most
    `pool_size` downloads run at once. Raises ValueError, without quoting it, for a secret that no header can carry.
    """

    def __init__(self, endpoint: str, secret: str, *, limits: DownloadLimits | None = None, pool_size: int = 4) -> None:
        # http.client would refuse anything else, in an error that quotes it.
        if not (secret.isascii() and secret.isprintable()):
            raise ValueError("the origin's secret must be printable ASCII")
        self.limits = limits or DownloadLimits()
        self._base = endpoint.partition("#")[0]
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._pool = pool(pool_size)
        self.host = host_of(endpoint)
        self._wording = Wording(
            peer=f"the origin {self.host}",
            size_limit="MAX_SOURCE_BYTES",
            refusals={
                400: f"the origin {self.host} does not accept this source_key (400): check auction_files.source_key",
                401: f"the origin {self.host} refused our credentials (401): check RAID_PUBLISHER_SECRET",
                403: f"the origin {self.host} refused our credentials (403): check RAID_PUBLISHER_SECRET",
                404: f"the origin {self.host} has no file under this source_key (404)",
                405: f"the origin {self.host} does not answer GET at this address (405): check RAID_PUB_ENDPOINT",
                410: f"the origin {self.host} no longer has the file of this source_key (410)",
            },
        )

    def __repr__(self) -> str:
        return f"Origin({self.host})"

    def fetch(
        self,
        source_key: str,
        target: Path,
        *,
        checkpoint: Callable[[], None] = lambda: None,
        on_bytes: Callable[[int], object] = lambda _count: None,
    ) -> Downloaded:
        """Download the file of `source_key` into `target`.

        `checkpoint`, `on_bytes` and the errors are those of `jobqueue.net.download.download`. A key that
        `check_source_key` refuses raises Permanent before any request.
        """
        check_source_key(source_key)
        return download(
            self._pool,
            self.url(source_key),
            self._headers,
            target,
            self.limits,
            checkpoint=checkpoint,
            on_bytes=on_bytes,
            wording=self._wording,
        )

    def url(self, source_key: str) -> str:
        """The address of `source_key`. Not for messages: it holds the endpoint's own query, which may be a secret."""
        joint = "?" if "?" not in self._base else "" if self._base.endswith(("?", "&")) else "&"
        return f"{self._base}{joint}key={quote(source_key, safe='')}"

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._pool.clear()
