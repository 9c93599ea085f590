"""Colour that no ICC profile tells: the numbers of H.273 (PNG's cICP, the nclx box of AVIF and HEIC), gAMA and cHRM.

High dynamic range becomes standard range by the EETF of ITU-R BT.2390-11 section 5.4, from 1,000 nit to 203 nit, which
is diffuse white by BT.2408. It is applied to the largest of the three channels, and all three get the same gain, so
that hues stay. Other mastering peaks in a file are not read: they would make one scene's pictures differ.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import pyvips

from jobqueue.media.colour import srgb_encode

if TYPE_CHECKING:
    from collections.abc import Callable

Matrix = tuple[tuple[float, ...], ...]


class Curve(Enum):
    """How a code value becomes light: `POWER` has an exponent of its own, the others are fixed."""

    SRGB = "sRGB"
    POWER = "power"
    PQ = "PQ"
    HLG = "HLG"


_D65, _C, _DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)

# Chromaticities (x, y) of red, green, blue and white by their number (ITU-T H.273 table 2).
_PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *_D65),
    4: (0.670, 0.330, 0.210, 0.710, 0.140, 0.080, *_C),
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, *_D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_DCI),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
SRGB_PRIMARIES = _PRIMARIES[1]

# Curves by their number (ITU-T H.273 table 3). Those of television (1, 6, 7, 14, 15) are shown with sRGB's, as browsers
# do: what a camera's curve says is meant for a display that undoes another one.
_CURVES = {
    **dict.fromkeys((1, 6, 7, 13, 14, 15), (Curve.SRGB, 1.0)),
    4: (Curve.POWER, 2.2),
    5: (Curve.POWER, 2.8),
    8: (Curve.POWER, 1.0),
    16: (Curve.PQ, 1.0),
    18: (Curve.HLG, 1.0),
}

_WHITE_NIT, _PEAK_NIT = 203.0, 1000.0

# Chromaticities nearer than this are the same: writers round them to three or four places.
_SAME = 0.002

_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


@dataclass(frozen=True, slots=True)
class ColourCode:
    """What the numbers of a picture stand for.

    `primaries` are the chromaticities (x, y) of red, green, blue and white. `exponent` takes a code value to light, both
    0 to 1, where `curve` is `POWER`. `full_range` is false where 16/255 is black and 235/255 white.
    """

    primaries: tuple[float, ...]
    curve: Curve
    exponent: float = 1.0
    full_range: bool = True

    @property
    def is_srgb(self) -> bool:
        """Whether the picture is in sRGB as it is."""
        return self.curve is Curve.SRGB and self.full_range and self.has_srgb_primaries

    @property
    def has_srgb_primaries(self) -> bool:
        return all(abs(a - b) < _SAME for a, b in zip(self.primaries, SRGB_PRIMARIES, strict=True))


def from_numbers(primaries: int, transfer: int, *, full_range: bool = True) -> ColourCode | None:
    """The meaning of H.273's numbers. None when one of them is unknown, reserved or unspecified."""
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        return None
    curve, exponent = _CURVES[transfer]
    return ColourCode(_PRIMARIES[primaries], curve, exponent, full_range)


def from_nclx(primaries: int, transfer: int) -> ColourCode | None:
    """The meaning of an nclx box, in which an unspecified number (2) is sRGB's. The decoder has undone its range."""
    return from_numbers(1 if primaries == 2 else primaries, 13 if transfer == 2 else transfer)


def spans_colours(primaries: tuple[float, ...]) -> bool:
    """Whether three chromaticities and a white are a set of primaries: no three on a line, and white between them."""
    try:
        return min(_white_shares(primaries)) > 0.001
    except ZeroDivisionError:
        return False


def to_srgb(image: pyvips.Image, code: ColourCode) -> pyvips.Image:
    """`image`, grey or RGB of 8 or 16 bits, in 8-bit sRGB, lazily. Its alpha, if it has one, is kept."""
    most = 65535 if image.format == "ushort" else 255
    if not image.hasalpha():
        return _colours(image, code, most)
    alpha = image[image.bands - 1].linear(255 / most, 0.5).cast("uchar")
    return _colours(image.extract_band(0, n=image.bands - 1), code, most).bandjoin(alpha)


def _colours(image: pyvips.Image, code: ColourCode, most: int) -> pyvips.Image:
    if image.bands == 1 or (code.has_srgb_primaries and code.curve in {Curve.SRGB, Curve.POWER}):
        # White stays white: what is grey in one set of primaries is grey in all.
        shown = image.maplut(_table(_Step.SHOWN, code, most)).cast("uchar")
        return shown.copy(interpretation="b-w" if image.bands == 1 else "srgb")
    light = image.maplut(_table(_Step.LIGHT, code, most))
    if code.curve is Curve.PQ:
        light *= _largest(image).maplut(_table(_Step.GAIN, code, most))
    elif code.curve is Curve.HLG:
        luminance = _combined(light, (_to_xyz(code.primaries)[1],))
        light *= _by_light(luminance, _scene_gain)
        light *= _by_light(_largest(light), _standard_gain)
    light = _combined(light, _to_srgb_light(code.primaries))
    return light.copy(interpretation="scrgb").colourspace("srgb")


def _combined(light: pyvips.Image, matrix: Matrix) -> pyvips.Image:
    return light.recomb(pyvips.Image.new_from_array([list(row) for row in matrix]))


def _largest(image: pyvips.Image) -> pyvips.Image:
    return image[0].maxpair(image[1]).maxpair(image[2])


class _Step(Enum):
    """What a table gives for a code value: an sRGB code, light (1 is white), or a gain."""

    SHOWN = "shown"
    LIGHT = "light"
    GAIN = "gain"


def _by_light(light: pyvips.Image, gain: Callable[[float], float]) -> pyvips.Image:
    """What `gain` says of each pixel of `light`, up to `_PEAK_NIT`."""
    return (light * (65535 * _WHITE_NIT / _PEAK_NIT)).cast("ushort").maplut(_gains(gain))


@functools.cache
def _gains(gain: Callable[[float], float]) -> pyvips.Image:
    return _as_table([gain(index / 65535 * _PEAK_NIT / _WHITE_NIT) for index in range(65536)])


@functools.lru_cache(maxsize=16)
def _table(step: _Step, code: ColourCode, most: int) -> pyvips.Image:
    return _as_table([_value(step, code, index / most) for index in range(most + 1)])


def _as_table(values: list[float]) -> pyvips.Image:
    return pyvips.Image.new_from_array([values]).cast("float").copy_memory()


def _value(step: _Step, code: ColourCode, x: float) -> float:
    if not code.full_range:
        x = min(max((x - 16 / 255) * 255 / 219, 0.0), 1.0)
    light = _light(code, x)
    match step:
        case _Step.LIGHT:
            return light
        case _Step.GAIN:
            return _standard_gain(light)
    if code.curve is Curve.HLG:
        light *= _scene_gain(light)
    if code.curve in {Curve.PQ, Curve.HLG}:
        light *= _standard_gain(light)
    return 255 * min(srgb_encode(light), 1.0) + 0.5


def _light(code: ColourCode, x: float) -> float:
    """The light of a code value, both from 0; 1 is white. Of HLG it is the scene's, before its system gamma."""
    match code.curve:
        case Curve.SRGB:
            return x / 12.92 if x <= 0.04045 else float(((x + 0.055) / 1.055) ** 2.4)
        case Curve.POWER:
            return float(x**code.exponent)
        case Curve.PQ:
            return _pq_nit(x) / _WHITE_NIT
    return (x * x / 3 if x <= 0.5 else (math.exp((x - _HLG_C) / _HLG_A) + _HLG_B) / 12) * _PEAK_NIT / _WHITE_NIT


# ITU-R BT.2100-2 table 5.
_HLG_A, _HLG_B, _HLG_C, _HLG_GAMMA = 0.17883277, 0.28466892, 0.55991073, 1.2


def _scene_gain(luminance: float) -> float:
    """From the scene's light to that of a display of `_PEAK_NIT`."""
    return float((luminance * _WHITE_NIT / _PEAK_NIT) ** (_HLG_GAMMA - 1))


# SMPTE ST 2084.
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128


def _pq_nit(x: float) -> float:
    power = x ** (1 / _M2)
    return float(10_000 * (max(power - _C1, 0.0) / (_C2 - _C3 * power)) ** (1 / _M1))


def _pq_code(nit: float) -> float:
    power = (nit / 10_000) ** _M1
    return float(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


_PEAK_CODE = _pq_code(_PEAK_NIT)
_MOST = _pq_code(_WHITE_NIT) / _PEAK_CODE
_KNEE = 1.5 * _MOST - 0.5


def _standard_gain(light: float) -> float:
    """What `light` is multiplied with, so that no more than white is left of it (BT.2390's spline)."""
    x = min(_pq_code(light * _WHITE_NIT) / _PEAK_CODE, 1.0)
    if x < _KNEE or light <= 0:
        return 1.0
    t = (x - _KNEE) / (1 - _KNEE)
    spline = (2 * t**3 - 3 * t**2 + 1) * _KNEE + (t**3 - 2 * t**2 + t) * (1 - _KNEE) + (3 * t**2 - 2 * t**3) * _MOST
    return _pq_nit(spline * _PEAK_CODE) / _WHITE_NIT / light


@functools.lru_cache(maxsize=32)
def _to_srgb_light(primaries: tuple[float, ...]) -> Matrix:
    """The matrix from linear light in `primaries` to that in sRGB's, white to white."""
    return _times(_inverse(_to_xyz(SRGB_PRIMARIES)), _times(_adaptation(primaries[6:]), _to_xyz(primaries)))


def _to_xyz(primaries: tuple[float, ...]) -> Matrix:
    shares = _white_shares(primaries)
    return tuple(tuple(value * share for value, share in zip(row, shares, strict=True)) for row in _columns(primaries))


def _white_shares(primaries: tuple[float, ...]) -> tuple[float, ...]:
    """How much of red, green and blue makes white. Raises ZeroDivisionError where they lie on a line."""
    return _applied(_inverse(_columns(primaries)), _xyz(*primaries[6:]))


def _columns(primaries: tuple[float, ...]) -> Matrix:
    return tuple(zip(*(_xyz(*primaries[at : at + 2]) for at in (0, 2, 4)), strict=True))


def _adaptation(white: tuple[float, ...]) -> Matrix:
    """Bradford's matrix from light under `white` to light under sRGB's."""
    there, here = _applied(_BRADFORD, _xyz(*white)), _applied(_BRADFORD, _xyz(*_D65))
    ratios = [to / of for of, to in zip(there, here, strict=True)]
    scaled = tuple(tuple(value * ratio for value in row) for row, ratio in zip(_BRADFORD, ratios, strict=True))
    return _times(_inverse(_BRADFORD), scaled)


def _xyz(x: float, y: float) -> tuple[float, float, float]:
    return x / y, 1.0, (1 - x - y) / y


def _applied(matrix: Matrix, vector: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _times(left: Matrix, right: Matrix) -> Matrix:
    return tuple(zip(*(_applied(left, column) for column in zip(*right, strict=True)), strict=True))


def _inverse(matrix: Matrix) -> Matrix:
    """Raises ZeroDivisionError where there is none: chromaticities that lie on a line."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    rows = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    return tuple(tuple(value / determinant for value in row) for row in rows)
