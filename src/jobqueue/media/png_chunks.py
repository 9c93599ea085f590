"""What the chunks of a PNG say before its pixels begin: its colours, and what would expand when a decoder reads it.

Chunks and their precedence: Portable Network Graphics, third edition, sections 4.3, 11.3.2 and 13.14.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from jobqueue.errors import Permanent
from jobqueue.media import colour_codes
from jobqueue.media.colour_codes import SRGB_PRIMARIES, ColourCode, Curve
from jobqueue.media.shown_copy import FilePiece

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

# What libspng and libvips hold of a byte of ancillary data (8.18.7: 5 of text, 8 of a suggested palette); deflate makes
# 1032 bytes of one at most.
_PLAIN, _COMPRESSED = 8, 5 * 1032
_ANCILLARY = {b"tEXt": _PLAIN, b"zTXt": _COMPRESSED, b"iTXt": _PLAIN, b"sPLT": _PLAIN, b"eXIf": _PLAIN}

# More than this is left out: no picture of a camera, an editor or a screen comes near it.
_MOST = 8_000_000

# An encoding exponent that is the inverse of 2.2 stands for sRGB when the primaries are sRGB's (section 11.3.2.3).
_SRGB_GAMMA = range(44_500, 46_501)

# Exponents outside are no pictures'.
_GAMMAS = range(5_000, 1_000_001)

_CHROMATICITY = range(1, 100_000)


class _Chunk(NamedTuple):
    name: bytes
    start: int  # of its length
    end: int  # behind its checksum
    body: bytes  # no more of it than `_BODY` bytes


_BODY = 2048

# Before the pixels a picture has ten or twenty.
_MOST_CHUNKS = 20_000


def shown_parts(path: Path) -> list[FilePiece] | None:
    """The parts of the PNG at `path` without ancillary data, where that would take much memory; None where it would not."""
    chunks = [chunk for chunk in _chunks(path) if chunk.name in _ANCILLARY]
    if sum(_held(chunk) for chunk in chunks) <= _MOST:
        return None
    parts, at = [], 0
    for chunk in chunks:
        parts.append(FilePiece(at, chunk.start))
        at = chunk.end
    return [*parts, FilePiece(at, path.stat().st_size)]


def colours(path: Path, *, has_profile: bool) -> ColourCode | None:
    """The colours of the PNG at `path`. None when it says nothing that can be understood, or its profile decides.

    `cICP` decides, then a profile, then `sRGB`, then `gAMA` and `cHRM`.
    """
    found = {chunk.name: chunk.body for chunk in _chunks(path)}
    if code := _by_numbers(found.get(b"cICP", b"")):
        return code
    if has_profile or b"sRGB" in found:
        return None
    return _by_measures(found.get(b"gAMA", b""), found.get(b"cHRM", b""))


def _by_numbers(body: bytes) -> ColourCode | None:
    """The matrix of a PNG is 0: it holds red, green and blue."""
    if len(body) != 4 or body[2] != 0 or body[3] > 1:
        return None
    return colour_codes.from_numbers(body[0], body[1], full_range=bool(body[3]))


def _by_measures(gamma: bytes, chromaticities: bytes) -> ColourCode | None:
    primaries = SRGB_PRIMARIES
    if len(chromaticities) == 32 and all(value in _CHROMATICITY for value in struct.unpack(">8I", chromaticities)):
        white_x, white_y, *others = (value / 100_000 for value in struct.unpack(">8I", chromaticities))
        primaries = (*others, white_x, white_y)
        if not colour_codes.spans_colours(primaries):
            primaries = SRGB_PRIMARIES
    exponent = int.from_bytes(gamma) if len(gamma) == 4 else 0
    code = ColourCode(primaries, Curve.SRGB)
    if exponent not in _GAMMAS or (exponent in _SRGB_GAMMA and code.is_srgb):
        return code
    return ColourCode(primaries, Curve.POWER, 100_000 / exponent)


def _held(chunk: _Chunk) -> int:
    each = _ANCILLARY[chunk.name]
    if chunk.name == b"iTXt":
        keyword = chunk.body.find(b"\0")
        if keyword < 0 or chunk.body[keyword + 1 : keyword + 2] == b"\1":
            each = _COMPRESSED
    return each * (chunk.end - chunk.start)


def _chunks(path: Path) -> Iterator[_Chunk]:
    """The chunks in front of the pixels. Raises `Permanent` when they are far too many."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        at = 8
        for _ in range(_MOST_CHUNKS):
            chunk = _chunk(file, at, end)
            if chunk is None or chunk.name in {b"IDAT", b"IEND"}:
                return
            yield chunk
            at = chunk.end
    raise Permanent(f"The PNG picture has too many parts: more than {_MOST_CHUNKS:,} before its pixels.")


def _chunk(file: BinaryIO, at: int, end: int) -> _Chunk | None:
    file.seek(at)
    header = file.read(8)
    if len(header) < 8:
        return None
    length = int.from_bytes(header[:4])
    return _Chunk(header[4:], at, min(at + 12 + length, end), file.read(min(length, _BODY)))
