"""How a TIFF holds its picture: its pages' tags, read from the directories. libvips tells almost none of them.

Nothing here trusts a length or an offset, and nothing raises for one: what cannot be read is missing, and decoding finds
the damage. Layout: TIFF 6.0 section 2, and BigTIFF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _ROWS_PER_STRIP = 254, 258, 259, 262, 277, 278
_PLANAR, _TILE_WIDTH, _TILE_LENGTH, _SUB_DIRECTORIES, _INKS, _EXTRA, _FORMAT = 284, 322, 323, 330, 332, 338, 339
_COEFFICIENTS, _SUBSAMPLING, _REFERENCE, _DNG_VERSION = 529, 530, 532, 50706

# Where pixels lie and how long they are: tables that are no metadata.
_PLACES = {273, 279, 324, 325}

# Samples of a colour filter array, and linear ones behind it: what camera raw files hold (TIFF/EP, DNG).
_RAW = {32803, 34892}

_REDUCED, _MASK = 1, 4

# Format characters and sizes of the types, the two of rationals as pairs.
_TYPES = {
    1: ("B", 1),
    2: ("B", 1),
    3: ("H", 2),
    4: ("I", 4),
    5: ("I", 8),
    6: ("b", 1),
    7: ("B", 1),
    8: ("h", 2),
    9: ("i", 4),
    10: ("i", 8),
    11: ("f", 4),
    12: ("d", 8),
    13: ("I", 4),
    16: ("Q", 8),
    17: ("q", 8),
    18: ("Q", 8),
}
_PAIRS = {5, 10}

_MOST_PAGES, _MOST_ENTRIES, _MOST_VALUES = 64, 4096, 32


@dataclass(frozen=True, slots=True)
class TiffPage:
    """One directory: the first values of each of its tags, and each tag's entry as it stands in the file.

    `number` is its place in the file as libvips counts pages. `metadata_bytes` is the size of all values but the tables
    of strips and tiles.
    """

    number: int
    tags: dict[int, tuple[float, ...]] = field(default_factory=dict)
    entries: dict[int, bytes] = field(default_factory=dict)
    metadata_bytes: int = 0

    def _first(self, tag: int, default: int) -> int:
        return int(self.tags.get(tag, (default,))[0])

    @property
    def is_reduced(self) -> bool:
        """Whether it is a smaller copy of another page, or a mask of one."""
        return bool(self._first(_SUBFILE, 0) & (_REDUCED | _MASK))

    @property
    def is_raw(self) -> bool:
        return _DNG_VERSION in self.tags or self.photometric in _RAW

    @property
    def photometric(self) -> int:
        return self._first(_PHOTOMETRIC, -1)

    @property
    def samples(self) -> int:
        return self._first(_SAMPLES, 1)

    @property
    def bits(self) -> int:
        return self._first(_BITS, 1)

    @property
    def sample_format(self) -> int:
        """1 unsigned, 2 signed, 3 floating point; others are unknown."""
        return self._first(_FORMAT, 1)

    @property
    def compression(self) -> int:
        return self._first(_COMPRESSION, 1)

    @property
    def is_planar(self) -> bool:
        return self._first(_PLANAR, 1) == 2

    @property
    def is_tiled(self) -> bool:
        return _TILE_WIDTH in self.tags

    @property
    def extra(self) -> tuple[float, ...]:
        """What samples behind the colours are: 1 alpha that was multiplied in, 2 alpha, 0 anything. Empty when not said."""
        return self.tags.get(_EXTRA, ())

    @property
    def inks(self) -> int:
        """1 where four inks are cyan, magenta, yellow and black."""
        return self._first(_INKS, 1)

    @property
    def subsampling(self) -> tuple[float, ...]:
        return self.tags.get(_SUBSAMPLING, (2, 2))

    @property
    def coefficients(self) -> tuple[float, ...]:
        """The shares of red, green and blue in luminance."""
        return self.tags.get(_COEFFICIENTS, (0.299, 0.587, 0.114))

    @property
    def reference(self) -> tuple[float, ...]:
        """The codes of black and white, of each component."""
        return self.tags.get(_REFERENCE, (0, 255, 128, 255, 128, 255))

    def block_bytes(self, width: int, height: int, row_bytes: int) -> int:
        """Bytes that its decoder holds at once: a row of tiles and one tile more, or one strip."""
        tile_width, tile_height = self._first(_TILE_WIDTH, 0), self._first(_TILE_LENGTH, 0)
        if tile_width > 0 and tile_height > 0:
            across = -(-width // tile_width)
            return (across + 1) * tile_width * tile_height * row_bytes // max(width, 1)
        return min(self._first(_ROWS_PER_STRIP, height), height) * row_bytes


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """The page of a TIFF that is shown, how its numbers stand (`order` as for `struct`), and whether it is a camera's raw file."""

    page: TiffPage
    order: str
    is_big: bool
    is_camera_raw: bool
    metadata_bytes: int


def read_layout(path: Path) -> TiffLayout:
    """The layout of the TIFF or BigTIFF at `path`. The page shown is the first that is no smaller copy of another."""
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in {b"+\0", b"\0+"}
        reader = _Reader(file, order, big=big)
        pages = reader.chain(reader.number_at(8 if big else 4))
        inner = [
            page
            for one in pages[:4]
            for at in one.tags.get(_SUB_DIRECTORIES, ())[:8]
            for page in reader.chain(int(at), 1)
        ]
    # Canon's files say so in front of the first directory.
    raw = head[8:10] == b"CR" or any(page.is_raw for page in (*pages, *inner))
    shown = next((page for page in pages if not page.is_reduced), pages[0] if pages else TiffPage(0))
    return TiffLayout(shown, order, big, raw, sum(page.metadata_bytes for page in pages))


class _Reader:
    def __init__(self, file: BinaryIO, order: str, *, big: bool) -> None:
        self._file = file
        self._order = order
        self._big = big
        self._size = file.seek(0, 2)

    def chain(self, at: int | None, most: int = _MOST_PAGES) -> list[TiffPage]:
        """The directories from `at` on, as far as they can be read."""
        pages: list[TiffPage] = []
        seen: set[int] = set()
        while at and at not in seen and len(pages) < most:
            seen.add(at)
            count = self._unpacked("Q" if self._big else "H", at)
            if count is None:
                break
            begin = at + (8 if self._big else 2)
            size = 20 if self._big else 12
            pages.append(self._page(len(pages), self._bytes(begin, min(count, _MOST_ENTRIES) * size), begin))
            at = self.number_at(begin + count * size)
        return pages

    def number_at(self, at: int) -> int | None:
        """An offset that stands at `at`."""
        return self._unpacked("Q" if self._big else "I", at)

    def _page(self, number: int, entries: bytes, begin: int) -> TiffPage:
        size, inline = (20, 8) if self._big else (12, 4)
        page = TiffPage(number)
        metadata = 0
        for at in range(0, len(entries) - size + 1, size):
            tag, kind, count = struct.unpack_from(self._order + ("HHQ" if self._big else "HHI"), entries, at)
            if kind not in _TYPES or tag in page.tags:
                continue
            value_at = begin + at + size - inline
            length = count * _TYPES[kind][1]
            if length > inline:
                value_at = self.number_at(value_at) or self._size
                metadata += 0 if tag in _PLACES else min(length, self._size)
            page.entries[tag] = entries[at : at + size]
            if values := self._values(kind, value_at, min(count, _MOST_VALUES)):
                page.tags[tag] = values
        return TiffPage(number, page.tags, page.entries, metadata)

    def _values(self, kind: int, at: int, count: int) -> tuple[float, ...]:
        form, size = _TYPES[kind]
        data = self._bytes(at, count * size)
        whole = len(data) // size * (2 if kind in _PAIRS else 1)
        numbers = struct.unpack_from(f"{self._order}{whole}{form}", data)
        if kind in _PAIRS:
            return tuple(a / b if b else 0.0 for a, b in zip(numbers[::2], numbers[1::2], strict=True))
        return numbers

    def _unpacked(self, form: str, at: int) -> int | None:
        size = struct.calcsize(f"<{form}")
        data = self._bytes(at, size)
        return int(struct.unpack(self._order + form, data)[0]) if len(data) == size else None

    def _bytes(self, at: int, count: int) -> bytes:
        if not 0 <= at < self._size:
            return b""
        self._file.seek(at)
        return self._file.read(count)
