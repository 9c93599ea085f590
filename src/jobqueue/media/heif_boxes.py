"""HEIF files as libheif is to see them: whole, without metadata, and with a still picture in front of a sequence.

libheif leaves a tile black whose bytes lie beyond the end of the file. It refuses a picture for metadata that it cannot
unpack. And pi-heif opens no file that has pictures in a track alone. Layout: ISO/IEC 14496-12 and 23008-12.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Before its description a file has one box or two.
_MOST_BOXES = 64

_METADATA = {b"Exif", b"mime", b"uri "}


class CutShortError(ValueError):
    """A part of the picture lies beyond the end of its file."""


class _Box(NamedTuple):
    """A box: its type, and where its content begins and ends."""

    name: bytes
    start: int
    end: int


def prepared(path: Path) -> bytes:
    """The bytes of the HEIC or AVIF file at `path` for libheif.

    Raises `CutShortError` when the file ends before one of its pictures does.
    """
    data = path.read_bytes()
    top = {box.name: box for box in reversed(list(_boxes(data, 0, len(data))))}
    try:
        if meta := top.get(b"meta"):
            inner = {box.name: box for box in _boxes(data, meta.start + 4, meta.end)}
            if b"iloc" in inner and b"iinf" in inner:
                kinds = _kinds(data, inner[b"iinf"])
                _check_extents(data, inner[b"iloc"], kinds)
                data = _without_metadata(data, kinds, inner.get(b"iref"))
        if b"moov" in top and (not meta or b"pitm" not in inner):
            return _still(data, top[b"moov"]) or data
    except (struct.error, IndexError):
        pass  # libheif finds what is wrong, and says it
    return data


def meta_bytes(path: Path) -> int:
    """The size of the box in which a HEIF file describes its pictures. The file is not read but for the heads of boxes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        for _ in range(_MOST_BOXES):
            file.seek(at)
            box = next(_boxes(file.read(16).ljust(16, b"\0"), 0, size), None)
            if box is None or at + 8 > size:
                break
            if box.name == b"meta":
                return min(box.end, size - at)
            at += box.end
    return size


def _boxes(data: bytes, start: int, end: int) -> Iterator[_Box]:
    """The boxes of a range, as far as they can be read. The last may claim to reach beyond it."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            content = start + 16
        stop = end if size == 0 else start + size
        if stop < content:
            return
        yield _Box(name, content, min(stop, end))
        start = stop


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size])


class _Kind(NamedTuple):
    """The type of an item, and where it stands."""

    name: bytes
    at: int


def _check_extents(data: bytes, iloc: _Box, kinds: dict[int, _Kind]) -> None:
    at = iloc.start
    version, sizes = data[at], _number(data, at + 4, 2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    id_size = 4 if version == 2 else 2
    count, at = _number(data, at + 6, id_size), at + 6 + id_size
    for _ in range(count):
        item = _number(data, at, id_size)
        at += id_size
        in_file = version == 0 or data[at + 1] & 15 == 0
        at += 4 if version else 2
        base = _number(data, at, base_size)
        extents, at = _number(data, at + base_size, 2), at + base_size + 2
        for _ in range(extents):
            at += index_size if version else 0
            ends = base + _number(data, at, offset_size) + _number(data, at + offset_size, length_size)
            at += offset_size + length_size
            if at > iloc.end:
                return
            if in_file and ends > len(data) and (item not in kinds or kinds[item].name not in _METADATA):
                raise CutShortError(f"it ends at {len(data):,} bytes, and a part of the picture at {ends:,}")


def _kinds(data: bytes, iinf: _Box) -> dict[int, _Kind]:
    """The types of the items by their numbers."""
    kinds = {}
    for box in _boxes(data, iinf.start + (6 if data[iinf.start] == 0 else 8), iinf.end):
        id_size = 2 if data[box.start] == 2 else 4
        at = box.start + 6 + id_size
        kinds[_number(data, box.start + 4, id_size)] = _Kind(data[at : at + 4], at)
    return kinds


def _without_metadata(data: bytes, kinds: dict[int, _Kind], references: _Box | None) -> bytes:
    """`data` with Exif and XMP as items of no known type that belong to nothing: so nobody unpacks them."""
    places = [kind.at for kind in kinds.values() if kind.name in _METADATA]
    if references is not None:
        inner = _boxes(data, references.start + 4, references.end)
        places += [box.start - 4 for box in inner if box.name == b"cdsc"]
    if not places:
        return data
    changed = bytearray(data)
    for at in places:
        changed[at : at + 4] = b"skip"
    return bytes(changed)


def _still(data: bytes, moov: _Box) -> bytes | None:
    """A file with the first picture of the first track of pictures, or None when there is none of HEVC."""
    found = [moov]
    for name in (b"trak", b"mdia", b"minf", b"stbl"):
        found = [inner for box in found for inner in _boxes(data, box.start, box.end) if inner.name == name]
    for box in found:
        tables = {inner.name: inner for inner in _boxes(data, box.start, box.end)}
        if b"stsd" in tables and (still := _first_sample(data, tables)):
            return still
    return None


def _first_sample(data: bytes, tables: dict[bytes, _Box]) -> bytes | None:
    entry = next(_boxes(data, tables[b"stsd"].start + 8, tables[b"stsd"].end), None)
    chunks = tables.get(b"stco") or tables.get(b"co64")
    if entry is None or entry.name not in {b"hvc1", b"hev1"} or chunks is None or b"stsz" not in tables:
        return None
    width, height = struct.unpack_from(">HH", data, entry.start + 24)
    properties = [
        data[box.start - 8 : box.end]
        for box in _boxes(data, entry.start + 78, entry.end)
        if box.name in {b"hvcC", b"colr"}
    ]
    at = _number(data, chunks.start + 8, 4 if b"stco" in tables else 8)
    size = _number(data, tables[b"stsz"].start + 4, 4) or _number(data, tables[b"stsz"].start + 12, 4)
    if at + size > len(data):
        raise CutShortError(f"it ends at {len(data):,} bytes, and its first picture at {at + size:,}")
    return _picture(data[at : at + size], [_full(b"ispe", struct.pack(">II", width, height)), *properties])


def _picture(coded: bytes, properties: list[bytes]) -> bytes:
    """A HEIC file of one picture."""
    head = _wrapped(b"ftyp", b"heic\0\0\0\0mif1heic")

    def meta(at: int) -> bytes:
        belong = struct.pack(">IHB", 1, 1, len(properties)) + bytes(
            0x80 | number for number in range(1, len(properties) + 1)
        )
        return _full(
            b"meta",
            _full(b"hdlr", b"\0\0\0\0pict" + b"\0" * 13)
            + _full(b"pitm", b"\0\1")
            + _full(b"iloc", b"\x44\0" + struct.pack(">HHHHII", 1, 1, 0, 1, at, len(coded)))
            + _full(b"iinf", b"\0\1" + _full(b"infe", b"\0\1\0\0hvc1\0", version=2))
            + _wrapped(b"iprp", _wrapped(b"ipco", b"".join(properties)) + _full(b"ipma", belong)),
        )

    return head + meta(len(head) + len(meta(0)) + 8) + _wrapped(b"mdat", coded)


def _wrapped(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def _full(name: bytes, content: bytes, version: int = 0) -> bytes:
    return _wrapped(name, bytes([version, 0, 0, 0]) + content)
