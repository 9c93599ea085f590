"""PNG files put together from chunks, of one colour."""

from __future__ import annotations

import struct
import zlib


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixel: tuple[int, ...], *before: bytes, deep: bool = False, after: bytes = b"") -> bytes:
    """A PNG of 64 x 64 pixels (grey, grey and alpha, RGB or RGBA, 8 or 16 bits) with chunks before and after them."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[len(pixel)]
    one = struct.pack(f">{len(pixel)}{'H' if deep else 'B'}", *pixel)
    head = struct.pack(">IIBBBBB", 64, 64, 16 if deep else 8, kind, 0, 0, 0)
    pixels = zlib.compress((b"\0" + one * 64) * 64)
    parts = (chunk(b"IHDR", head), *before, chunk(b"IDAT", pixels), after, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def cicp(primaries: int, transfer: int, *, full_range: int = 1, matrix: int = 0) -> bytes:
    return chunk(b"cICP", bytes((primaries, transfer, matrix, full_range)))


def gamma(exponent: int) -> bytes:
    """The encoding exponent times 100,000."""
    return chunk(b"gAMA", struct.pack(">I", exponent))


def chromaticities(*values: int) -> bytes:
    """White, red, green and blue, x and y of each, times 100,000."""
    return chunk(b"cHRM", struct.pack(f">{len(values)}I", *values))


def profile(icc: bytes) -> bytes:
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(icc))


SRGB = chunk(b"sRGB", b"\0")
P3_CHROMATICITIES = chromaticities(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB_CHROMATICITIES = chromaticities(31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
