"""Whether a picture's colour profile says anything but sRGB: converting what is sRGB already would cost time for nothing.

A name proves nothing: many a profile has "sRGB" in its description and is not. So this module compares the three
colourants and the tone curves with sRGB's. Tag layout: ICC.1:2022 sections 7 and 10; the sRGB curve: IEC 61966-2-1.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyvips

# CIE XYZ of sRGB's primaries adapted to D50, as profiles hold them.
_COLOURANTS = {
    b"rXYZ": (0.4361, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7141),
}
_COLOURANT_TOLERANCE = 0.004
_CURVES = (b"rTRC", b"gTRC", b"bTRC")
_REMEMBERED_BYTES = 1 << 16
_CURVE_TOLERANCE = 3 / 255  # in encoded values: no eye sees it, and 8-bit tables are off by it


def foreign_profile(image: pyvips.Image) -> bool:
    """Whether `image` carries a colour profile that is not sRGB."""
    if not image.get_typeof("icc-profile-data"):
        return False
    return not is_srgb(bytes(image.get("icc-profile-data")))


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile describes sRGB by a matrix and curves. False for anything that cannot be read."""
    # What is remembered is held for good: a large profile, which no sRGB one is, is looked at each time.
    return (_is_srgb_remembered if len(profile) <= _REMEMBERED_BYTES else _is_srgb)(profile)


def _is_srgb(profile: bytes) -> bool:
    if len(profile) < 132 or profile[16:20] != b"RGB " or profile[36:40] != b"acsp":
        return False
    try:
        tags = _tags(profile)
        if b"A2B0" in tags:  # a table decides then, not the matrix
            return False
        return all(_near(tags[name], xyz) for name, xyz in _COLOURANTS.items()) and all(
            _is_srgb_curve(tags[name]) for name in _CURVES
        )
    except (KeyError, struct.error, OverflowError, ZeroDivisionError):
        return False


_is_srgb_remembered = functools.lru_cache(maxsize=64)(_is_srgb)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 100)))
    return {name: profile[offset : offset + size] for name, offset, size in entries}


def _near(tag: bytes, expected: tuple[float, float, float]) -> bool:
    values = struct.unpack_from(">3i", tag, 8)
    return all(abs(value / 65536 - want) < _COLOURANT_TOLERANCE for value, want in zip(values, expected, strict=True))


def _is_srgb_curve(tag: bytes) -> bool:
    curve = _curve(tag)
    return all(abs(srgb_encode(curve(step / 16)) - step / 16) < _CURVE_TOLERANCE for step in range(17))


def srgb_encode(linear: float) -> float:
    """The code value of `linear` light, both 0 to 1 (IEC 61966-2-1)."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def _curve(tag: bytes) -> Callable[[float], float]:
    """The tone curve of a `curv` or `para` tag, from encoded to linear, both 0 to 1."""
    if tag[:4] == b"para":
        return _parametric(tag)
    if tag[:4] != b"curv":
        raise KeyError(tag[:4])
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return lambda x: x
    if count == 1:
        (gamma,) = struct.unpack_from(">H", tag, 12)
        return lambda x: float(x ** (gamma / 256))
    table = struct.unpack_from(f">{count}H", tag, 12)

    def interpolate(x: float) -> float:
        at = x * (count - 1)
        below = min(int(at), count - 2)
        return float(table[below] + (table[below + 1] - table[below]) * (at - below)) / 65535

    return interpolate


def _parametric(tag: bytes) -> Callable[[float], float]:
    """Function types 0 to 4 of ICC.1:2022 table 68, all as (a x + b)^g + e where x >= d, else c x + f."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    number = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}[kind]
    p = [value / 65536 for value in struct.unpack_from(f">{number}i", tag, 12)]
    g, a, b, c, d, e, f = p[0], 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if kind in (1, 2):
        a, b = p[1], p[2]
        e = f = p[3] if kind == 2 else 0.0
        d = -b / a
    elif kind in (3, 4):
        a, b, c, d = p[1:5]
        e, f = (p[5], p[6]) if kind == 4 else (0.0, 0.0)
    return lambda x: max(a * x + b, 0.0) ** g + e if x >= d else c * x + f
