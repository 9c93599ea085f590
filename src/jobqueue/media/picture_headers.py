"""The few facts that memory depends on and libvips does not tell, read from the files' own headers.

Nothing here trusts a length or an offset. A damaged header yields the cautious answer, and decoding finds the damage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Start of frame: all C0 to CF but the tables DHT, JPG and DAC (ITU-T T.81 table B.1).
_SOF = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = {0x01, *range(0xD0, 0xD9)}


class Sampling(NamedTuple):
    """The sampling factors of one component of a JPEG, each 1 to 4."""

    horizontal: int
    vertical: int

    @property
    def valid(self) -> bool:
        return 1 <= self.horizontal <= 4 and 1 <= self.vertical <= 4


def jpeg_sampling(path: Path) -> list[Sampling]:
    """The sampling factors of each component of the JPEG at `path`. Empty when it shows none that are valid."""
    with path.open("rb") as file:
        file.seek(2)
        for segment in _jpeg_segments(file):
            if segment.marker in _SOF:
                return _sampling(file.read(segment.size))
            file.seek(segment.size, 1)
    return []


def _sampling(frame: bytes) -> list[Sampling]:
    """What a frame header says of its components: behind its first six bytes it has three for each."""
    if len(frame) <= 6:
        return []
    count = min(frame[5], (len(frame) - 6) // 3)
    components = [Sampling(*divmod(frame[7 + 3 * index], 16)) for index in range(count)]
    return components if all(each.valid for each in components) else []


def jpeg_metadata(path: Path) -> int:
    """Bytes of the JPEG at `path` that are neither tables nor pixels: its application segments and comments."""
    with path.open("rb") as file:
        file.seek(2)
        total = 0
        for segment in _jpeg_segments(file):
            if segment.marker >= 0xE0:
                total += segment.size
            file.seek(segment.size, 1)
    return min(total, path.stat().st_size)


class _Segment(NamedTuple):
    marker: int
    size: int


def _jpeg_segments(file: BinaryIO) -> Iterator[_Segment]:
    """Marker and payload size in bytes of each segment, with `file` at the payload's start; the reader moves it past."""
    while byte := file.read(1):
        if byte != b"\xff":
            continue
        while (code := file.read(1)) == b"\xff":
            pass
        if not code or code[0] == 0 or code[0] in _STANDALONE:
            continue
        if code[0] == 0xDA:  # scans begin: no frame header follows that matters
            return
        length = file.read(2)
        if len(length) < 2:
            return
        yield _Segment(code[0], max(int.from_bytes(length) - 2, 0))


def webp_metadata(path: Path) -> int:
    """Bytes of the profile, Exif and XMP of the WebP at `path`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at, total = 12, 0
        while at < size:
            file.seek(at)
            header = file.read(8)
            length = int.from_bytes(header[4:], "little")
            if header[:4] in {b"ICCP", b"EXIF", b"XMP "}:
                total += min(length, size - at)
            at += 8 + length + (length & 1)
    return total


@dataclass(frozen=True, slots=True)
class WebpTraits:
    """What decides how much of a WebP picture must be held whole."""

    lossless: bool
    alpha: bool
    animated: bool


def webp_traits(path: Path) -> WebpTraits:
    """Traits of the WebP at `path`, or of its first frame, by its chunks (RFC 9649 section 2)."""
    with path.open("rb") as file:
        file.seek(12)
        flags = 0
        animated = False
        while len(header := file.read(8)) == 8:
            name, size = header[:4], int.from_bytes(header[4:], "little")
            if name == b"VP8X":
                flags = (file.read(1) or b"\0")[0]
                file.seek(size + (size & 1) - 1, 1)
            elif name == b"ANMF":
                animated = True
                file.seek(16, 1)  # the frame's own chunks follow its position and duration
            elif name in {b"VP8 ", b"VP8L"}:
                return WebpTraits(name == b"VP8L", bool(flags & 0x10), animated)
            else:
                file.seek(size + (size & 1), 1)
    return WebpTraits(lossless=True, alpha=True, animated=True)
