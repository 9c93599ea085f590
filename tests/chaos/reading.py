"""What was published, read as its readers do: by its URL, over HTTP."""

from __future__ import annotations

import http.client
import io
import zipfile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.chaos.work import media

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def unreadable_pictures(base: str, urls: Iterable[str]) -> Iterator[str]:
    """What is wrong with each of `urls` that does not show a whole WebP picture."""
    with Reader(base) as reader:
        for url in urls:
            status, kind, data = reader.read(url)
            whole = (
                data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) == int.from_bytes(data[4:8], "little") + 8
            )
            if (status, kind) != (200, "image/webp") or not whole:
                yield f"{url}: {status}, {kind}, {len(data)} bytes"


def unlike(data: bytes, n: int, wanted: set[str]) -> str | None:
    """Why the archive of piece `n` is not what its project holds, or None."""
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

    def read(self, url: str) -> tuple[int, str | None, bytes]:
        """Status, content type and body."""
        self._connection.request("GET", urlsplit(url).path)
        answer = self._connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
