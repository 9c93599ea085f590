"""What was published, read as its readers do: by its URL, over HTTP."""

from __future__ import annotations

import http.client
import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from tests.chaos.work import media

if TYPE_CHECKING:
    from collections.abc import Sequence

# As many as keep two processors busy, that of the server's threads included.
_READERS: Final = 4


class Answer(NamedTuple):
    status: int
    kind: str | None
    data: bytes


Check = Callable[[Answer], str | None]
"""Says what is wrong with an answer, or None."""


def unreadable(base: str, checks: Sequence[tuple[str, Check]]) -> list[str]:
    """Read each URL of the server at `base` and say what its check finds wrong; many at a time, so checks run in many threads."""

    def read(share: Sequence[tuple[str, Check]]) -> list[str]:
        with Reader(base) as reader:
            return [f"{url}: {wrong}" for url, check in share if (wrong := check(reader.read(url)))]

    with ThreadPoolExecutor(_READERS, thread_name_prefix="reader") as readers:
        shares = readers.map(read, [checks[n::_READERS] for n in range(_READERS)])
        return [wrong for share in shares for wrong in share]


def not_a_picture(answer: Answer) -> str | None:
    """What is wrong with an answer that does not show a whole WebP picture."""
    status, kind, data = answer
    whole = data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) == int.from_bytes(data[4:8], "little") + 8
    if (status, kind) == (200, "image/webp") and whole:
        return None
    return f"{status}, {kind}, {len(data)} bytes{f': {data[:100]!r}' if status != 200 else ''}"


def not_the_archive(answer: Answer, *, n: int, wanted: set[str]) -> str | None:
    """What is wrong with an answer that is not the archive of piece `n`, whole and with the files `wanted`."""
    status, kind, data = answer
    if (status, kind) != (200, "application/zip"):
        return f"{status}, {kind}"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if bad := archive.testzip():
                return f"{bad} has a wrong CRC"
            held = {name for name in archive.namelist() if name.endswith(".jpg")}
            if held != wanted:
                return f"it holds {sorted(held)} and not {sorted(wanted)}"
            unlike = [name for name in held if archive.read(name) != media(n, int(name.removesuffix(".jpg")))]
            return f"{unlike} are other bytes" if unlike else None
    except zipfile.BadZipFile as error:
        return str(error)


class Reader:
    """Reads URLs of one server over one connection."""

    def __init__(self, base: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=60)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def read(self, url: str) -> Answer:
        self._connection.request("GET", urlsplit(url).path)
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.getheader("Content-Type"), answer.read())
