"""The bytes of a stored ZIP, laid out before any file is read.

Every entry's size and CRC-32 are known beforehand. So local headers are complete, nothing needs a data descriptor, the
length is exact, and any range can be made by itself: parts are sent in any order and in parallel. No library offers
that, so this module writes the format; `tests/artifacts/test_zip_layout.py` reads the result with four others' readers.

Rules (APPNOTE.TXT 6.3.10, and what readers trip over):
- method 0 (stored), names in UTF-8 with bit 11 set;
- Zip64 only where a value does not fit: in a local header for a size, in the directory for a size or an offset, at the
  end for a count, a size or an offset (old readers reject it elsewhere);
- made by Unix with mode 0644, no extra fields besides Zip64's, so that the same entries give the same bytes.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64: Final = struct.Struct("<4sLQL")

_UTF8: Final = 1 << 11
_STORED: Final = 0
_UNIX: Final = 3 << 8
_REGULAR_FILE_0644: Final = 0o100644 << 16
_VERSION: Final = 10
_VERSION_64: Final = 45

# A field of all ones says "look into the Zip64 record", so these values themselves do not fit either.
_TOO_LONG: Final = 0xFFFFFFFF
_TOO_MANY: Final = 0xFFFF


class DosTime(NamedTuple):
    """A date and a time of day in MS-DOS form, to two seconds."""

    date: int
    time: int


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A file of the ZIP: `size` in bytes, `modified` as `dos_time` gives it.

    `content` holds the bytes where they are at hand. Without it, `pieces` gives a Span for the writer to fill.
    """

    name: str
    size: int
    crc32: int
    modified: DosTime
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` of entry number `entry`; their place in the ZIP is `at`."""

    at: int
    entry: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes of the ZIP's own; their place in it is `at`."""

    at: int
    data: bytes


def dos_time(moment: datetime | None) -> DosTime:
    """Date and time in the time zone of `moment`; within 1980 to 2107, 1980 for None."""
    if moment is None or moment.year < 1980:
        return DosTime((1 << 5) | 1, 0)
    if moment.year > 2107:
        return DosTime((127 << 9) | (12 << 5) | 31, (23 << 11) | (59 << 5) | 29)
    date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
    return DosTime(date, moment.hour << 11 | moment.minute << 5 | moment.second // 2)


class ZipLayout:
    """The place of everything in a ZIP of `entries`, in their order. `size` is the ZIP's length in bytes."""

    def __init__(self, entries: Sequence[ZipEntry]) -> None:
        self.entries = entries
        self._headers = array("Q")
        at = 0
        for entry in entries:
            self._headers.append(at)
            at += _local_length(entry) + entry.size
        self._directory_at = at
        self._records = array("Q")
        for entry, header in zip(entries, self._headers, strict=True):
            self._records.append(at)
            at += _record_length(entry, header)
        self._tail_at = at
        self._tail = self._end()
        self.size = at + len(self._tail)

    def data_at(self, entry: int) -> int:
        """Where the bytes of entry number `entry` begin."""
        return self._headers[entry] + _local_length(self.entries[entry])

    def pieces(self, start: int, end: int) -> Iterator[Literal | Span]:
        """What stands in bytes `start` to `end` of the ZIP, in order and without gaps or overlaps."""
        yield from self._local_pieces(start, min(end, self._directory_at))
        for index in range(max(0, bisect_right(self._records, start) - 1), len(self.entries)):
            if self._records[index] >= end:
                return
            yield from _clip(self._records[index], self._record(index), start, end)
        yield from _clip(self._tail_at, self._tail, start, end)

    def _local_pieces(self, start: int, end: int) -> Iterator[Literal | Span]:
        for index in range(max(0, bisect_right(self._headers, start) - 1), len(self.entries)):
            at, entry = self._headers[index], self.entries[index]
            if at >= end:
                return
            yield from _clip(at, _local(entry), start, end)
            data_at = self.data_at(index)
            if entry.content is not None:
                yield from _clip(data_at, entry.content, start, end)
                continue
            first, last = max(start, data_at), min(end, data_at + entry.size)
            if first < last:
                yield Span(first, index, first - data_at, last - data_at)

    def _record(self, index: int) -> bytes:
        """The directory's record of one entry."""
        entry, header = self.entries[index], self._headers[index]
        name = entry.name.encode()
        values = [
            *([entry.size, entry.size] if entry.size >= _TOO_LONG else []),
            *([header] if header >= _TOO_LONG else []),
        ]
        extra = struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""
        version = _VERSION_64 if values else _VERSION
        date, time = entry.modified
        size = min(entry.size, _TOO_LONG)
        return (
            _CENTRAL.pack(
                b"PK\x01\x02", _UNIX | version, version, _UTF8, _STORED, time, date, entry.crc32, size, size,
                len(name), len(extra), 0, 0, 0, _REGULAR_FILE_0644, min(header, _TOO_LONG),
            )
            + name
            + extra
        )  # fmt: skip

    def _end(self) -> bytes:
        count, at, length = len(self.entries), self._directory_at, self._tail_at - self._directory_at
        end64 = b""
        if count >= _TOO_MANY or at >= _TOO_LONG or length >= _TOO_LONG:
            end64 = _END64.pack(
                b"PK\x06\x06", _END64.size - 12, _UNIX | _VERSION_64, _VERSION_64, 0, 0, count, count, length, at
            ) + _LOCATOR64.pack(b"PK\x06\x07", 0, self._tail_at, 1)
        few = min(count, _TOO_MANY)
        return end64 + _END.pack(b"PK\x05\x06", 0, 0, few, few, min(length, _TOO_LONG), min(at, _TOO_LONG), 0)


def _local_length(entry: ZipEntry) -> int:
    return _LOCAL.size + len(entry.name.encode()) + (20 if entry.size >= _TOO_LONG else 0)


def _record_length(entry: ZipEntry, header: int) -> int:
    values = 2 * (entry.size >= _TOO_LONG) + (header >= _TOO_LONG)
    return _CENTRAL.size + len(entry.name.encode()) + (4 + 8 * values if values else 0)


def _local(entry: ZipEntry) -> bytes:
    name = entry.name.encode()
    long = entry.size >= _TOO_LONG
    extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.size) if long else b""
    date, time = entry.modified
    size = min(entry.size, _TOO_LONG)
    return (
        _LOCAL.pack(
            b"PK\x03\x04", _VERSION_64 if long else _VERSION, _UTF8, _STORED, time, date, entry.crc32, size, size,
            len(name), len(extra),
        )
        + name
        + extra
    )  # fmt: skip


def _clip(at: int, data: bytes, start: int, end: int) -> Iterator[Literal]:
    """The part of `data`, which stands at `at`, that lies between `start` and `end`."""
    first, last = max(start, at), min(end, at + len(data))
    if first < last:
        yield Literal(first, data[first - at : last - at])
