"""TIFF files put together from directories: every kind of sample, plane, strip and tile."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[Any]

_FORMATS = {"u": 1, "i": 2, "f": 3}

SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANAR, EXTRA, FORMAT = (
    254,
    258,
    259,
    262,
    274,
    277,
    284,
    338,
    339,
)
DEFLATE, ZSTD = 8, 50000


@dataclass
class Page:
    """One page of `samples` (rows, columns, channels), in strips of `rows` or in square tiles of `tile` pixels."""

    samples: Samples
    photometric: int = 2
    planar: bool = False
    rows: int | None = None
    tile: int | None = None
    compression: int = 1
    extra: list[int] = field(default_factory=list)
    tags: dict[int, Any] = field(default_factory=dict)
    order: Literal["<", ">"] = "<"
    packed: list[bytes] | None = None  # the strips or tiles as they are to stand in the file

    def blocks(self) -> list[bytes]:
        """The bytes of each strip or tile, plane by plane where they are separate."""
        if self.packed:
            return self.packed
        stored = self.samples.astype(self.samples.dtype.newbyteorder(self.order))
        planes = [stored[:, :, i : i + 1] for i in range(stored.shape[2])] if self.planar else [stored]
        found = []
        height, width = stored.shape[:2]
        for plane in planes:
            if self.tile:
                across, down = -(-width // self.tile) * self.tile, -(-height // self.tile) * self.tile
                filled = np.zeros((down, across, plane.shape[2]), plane.dtype)
                filled[:height, :width] = plane
                found += [
                    filled[y : y + self.tile, x : x + self.tile].tobytes()
                    for y in range(0, down, self.tile)
                    for x in range(0, across, self.tile)
                ]
            else:
                rows = self.rows or height
                found += [plane[y : y + rows].tobytes() for y in range(0, height, rows)]
        return [zlib.compress(block) if self.compression != 1 else block for block in found]

    def entries(self) -> dict[int, tuple[int, list[Any]]]:
        """Tags with their type and values, without the places of the blocks."""
        height, width, samples = self.samples.shape
        entries: dict[int, tuple[int, list[Any]]] = {
            256: (4, [width]),
            257: (4, [height]),
            BITS: (3, [8 * self.samples.itemsize] * samples),
            COMPRESSION: (3, [self.compression]),
            PHOTOMETRIC: (3, [self.photometric]),
            SAMPLES: (3, [samples]),
            PLANAR: (3, [2 if self.planar else 1]),
            FORMAT: (3, [_FORMATS[self.samples.dtype.kind]] * samples),
        }
        if self.tile:
            entries |= {322: (4, [self.tile]), 323: (4, [self.tile])}
        else:
            entries[278] = (4, [self.rows or height])
        if self.extra:
            entries[EXTRA] = (3, self.extra)
        for tag, values in self.tags.items():
            kind = (
                7
                if isinstance(values, bytes)
                else 5
                if values and isinstance(values[0], tuple)
                else 4
                if tag == SUBFILE
                else 3
            )
            entries[tag] = (kind, list(values))
        return entries


_FORMS = {3: "H", 4: "I", 5: "II", 7: "B", 16: "Q", 18: "Q"}


def tiff(*pages: Page, big: bool = False) -> bytes:
    """The file of `pages`, whose directories stand in front of their pixels. All have the byte order of the first."""
    order = pages[0].order
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + ("HHQ" if big else "I"), *((8, 0, 16) if big else (8,)))
    content = b""
    base = len(head)
    for page in pages:
        blocks = page.blocks()
        offsets, counts = (324, 325) if page.tile else (273, 279)
        entries = page.entries() | {
            offsets: (16 if big else 4, [0] * len(blocks)),
            counts: (4, [len(block) for block in blocks]),
        }
        size = len(_directory(entries, order, base, 0, big=big))
        at = base + size
        places = []
        for block in blocks:
            places.append(at)
            at += len(block)
        entries[offsets] = (entries[offsets][0], places)
        content += _directory(entries, order, base, 0 if page is pages[-1] else at, big=big) + b"".join(blocks)
        base = at
    return head + content


def _directory(entries: dict[int, tuple[int, list[Any]]], order: str, at: int, following: int, *, big: bool) -> bytes:
    entry, inline = (20, 8) if big else (12, 4)
    begin = at + (8 if big else 2) + entry * len(entries) + (8 if big else 4)
    rows, behind = b"", b""
    for tag, (kind, values) in sorted(entries.items()):
        form = _FORMS[kind]
        flat = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
        data = struct.pack(order + form[0] * len(flat), *flat)
        rows += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, len(values))
        if len(data) <= inline:
            rows += data.ljust(inline, b"\0")
        else:
            rows += struct.pack(order + ("Q" if big else "I"), begin + len(behind))
            behind += data + b"\0" * (len(data) % 2)
    count = struct.pack(order + ("Q" if big else "H"), len(entries))
    return count + rows + struct.pack(order + ("Q" if big else "I"), following) + behind


def flat(*channels: float, dtype: str = "u1", width: int = 64, height: int = 48) -> Samples:
    """Samples of one colour."""
    return np.broadcast_to(np.array(channels, np.dtype(dtype)), (height, width, len(channels))).copy()


def halves(
    left: tuple[float, ...], right: tuple[float, ...], dtype: str = "u1", width: int = 64, height: int = 48
) -> Samples:
    """Samples of two colours, side by side."""
    samples = flat(*left, dtype=dtype, width=width, height=height)
    samples[:, width // 2 :] = np.array(right, np.dtype(dtype))
    return samples
