"""The form of an archive: gzip over newline-delimited JSON. Each line is a row and names its table.

    {"table":"platform_notifications","row":{"id":"...", ...}}
    {"table":"notification_state","row":{"notification_id":"...", ...}}

A row is what row_to_json makes of it with times in UTC, so that `json_populate_record(NULL::table, row)` gives the row back. Rows
that belong to another follow it. The digest is the SHA-256 of the uncompressed lines: the same rows have the same digest, and the
object's key is made of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

CONTENT_TYPE: Final = "application/gzip"
SUFFIX: Final = ".ndjson.gz"

_CHUNK: Final = 256 * 1024
_LEVEL: Final = 6
_DAY: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T]")


class Damaged(Exception):
    """The bytes are no archive, or only a part of one."""


class Readable(Protocol):
    """Gives bytes, `size` at most at a time."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Content:
    """What an archive holds: the number of lines, their bytes before compression, and the SHA-256 of these in hex."""

    lines: int
    size_bytes: int
    sha256: str


class Digest:
    """Adds lines up to their Content."""

    def __init__(self) -> None:
        self.lines = 0
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()

    def add(self, table: str, row: str) -> bytes:
        """Count one row, given as JSON without a line break; returns its line."""
        line = b'{"table":%s,"row":%s}\n' % (json.dumps(table).encode(), row.encode())
        self.lines += 1
        self.size_bytes += len(line)
        self._sha256.update(line)
        return line

    @property
    def content(self) -> Content:
        """The lines added so far."""
        return Content(self.lines, self.size_bytes, self._sha256.hexdigest())


class Writer:
    """Writes an archive to `file`. The archive is complete when the context is left."""

    def __init__(self, file: IO[bytes]) -> None:
        # No name and no time, so that the same lines give the same bytes.
        self._gzip = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0)
        self.digest = Digest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gzip.close()

    def add(self, table: str, row: str) -> None:
        """Write one row, given as JSON without a line break."""
        self._gzip.write(self.digest.add(table, row))


def read_content(file: Readable) -> Content:
    """Read an archive to its end, in a fixed amount of memory, and return what it holds. Raises Damaged."""
    lines, size, sha256 = 0, 0, hashlib.sha256()
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:  # type: ignore[call-overload] # it needs no more than read()
            while chunk := unpacked.read(_CHUNK):
                lines += chunk.count(b"\n")
                size += len(chunk)
                sha256.update(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Damaged(f"it is no complete archive ({type(error).__name__})") from error
    return Content(lines, size, sha256.hexdigest())


def object_key(table: str, first_at: str, content: Content) -> str:
    """The key of an archive. The day in it, from `first_at`, its first row's time in ISO form, is for people who look for one."""
    found = _DAY.match(first_at)
    day = "/".join(found.groups()) if found else "undated"
    return f"archives/{table}/{day}/{content.sha256}{SUFFIX}"
