"""What the numbers of a picture say of its colours, and what they look like in sRGB."""

from __future__ import annotations

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.media import colour_codes
from jobqueue.media.colour_codes import SRGB_PRIMARIES, ColourCode, Curve, from_nclx, from_numbers, to_srgb

P3 = from_numbers(12, 13)
PQ, HLG = from_numbers(9, 16), from_numbers(9, 18)


def pixel(*values: int, deep: bool = False) -> pyvips.Image:
    """A picture of one colour, 8 or 16 bits, with alpha where it has an even number of bands."""
    image = pyvips.Image.black(4, 4, bands=len(values)).linear(1, list(values)).cast("ushort" if deep else "uchar")
    grey, rgb = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    return image.copy(interpretation=grey if len(values) < 3 else rgb)


def in_srgb(code: ColourCode | None, *values: int, deep: bool = False) -> list[float]:
    """What `values` become; always 8 bits."""
    assert code is not None
    shown = to_srgb(pixel(*values, deep=deep), code)
    assert shown.format == "uchar"
    assert shown.interpretation in {"srgb", "b-w"}
    result: list[float] = shown(1, 1)
    return result


def test_display_p3_becomes_srgb_and_alpha_stays() -> None:
    assert in_srgb(P3, 200, 60, 60) == pytest.approx([217, 42, 52], abs=1)
    assert in_srgb(P3, 200, 60, 60, 99) == pytest.approx([217, 42, 52, 99], abs=1)
    assert in_srgb(P3, 200 * 257, 60 * 257, 60 * 257, 99 * 257, deep=True) == pytest.approx([217, 42, 52, 99], abs=1)


def test_grey_is_grey_in_all_primaries() -> None:
    assert in_srgb(P3, 90) == [90]
    assert in_srgb(P3, 90, 7) == [90, 7]


# What BT.2390 makes of a code of PQ and of HLG, from 1,000 nit to 203.
@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        (PQ, 0.0, 0), (PQ, 0.508, 186), (PQ, 0.5807, 229), (PQ, 0.65, 249), (PQ, 0.75, 255), (PQ, 1.0, 255),
        (HLG, 0.0, 0), (HLG, 0.5, 137), (HLG, 0.75, 229), (HLG, 0.9, 253), (HLG, 1.0, 255),
    ],
)  # fmt: skip
def test_high_dynamic_range_becomes_standard(code: ColourCode, value: float, expected: int) -> None:
    deep = round(value * 65535)
    assert in_srgb(code, *[deep] * 3, deep=True) == pytest.approx([expected] * 3, abs=1)
    assert in_srgb(code, deep, deep=True) == pytest.approx([expected], abs=1)
    assert in_srgb(code, *[round(value * 255)] * 3) == pytest.approx([expected] * 3, abs=2)


@pytest.mark.parametrize("code", [PQ, HLG])
def test_a_bright_colour_keeps_its_hue(code: ColourCode) -> None:
    red, green, blue = in_srgb(code, 45_000, 40_000, 40_000, deep=True)
    assert red > max(green, blue)
    assert green == pytest.approx(blue, abs=12)


def test_a_power_and_a_narrow_range() -> None:
    linear = ColourCode(SRGB_PRIMARIES, Curve.POWER, 1.0)
    assert in_srgb(linear, round(0.21404 * 65535), round(0.0331 * 65535), 0, deep=True) == pytest.approx(
        [128, 51, 0], abs=1
    )
    assert in_srgb(ColourCode(colour_codes._PRIMARIES[12], Curve.POWER, 1 / 0.45455), 200, 60, 60) == pytest.approx(
        [219, 37, 49], abs=1
    )
    narrow = from_numbers(1, 13, full_range=False)
    assert in_srgb(narrow, 16, 235, 126) == pytest.approx([0, 255, 128], abs=1)


@pytest.mark.parametrize("primaries", sorted(colour_codes._PRIMARIES))
@pytest.mark.parametrize("transfer", sorted(colour_codes._CURVES))
def test_white_is_white_and_black_is_black_whatever_the_numbers(primaries: int, transfer: int) -> None:
    code = from_numbers(primaries, transfer)
    assert in_srgb(code, 255, 255, 255) == pytest.approx([255] * 3, abs=1)
    assert in_srgb(code, 0, 0, 0) == [0, 0, 0]


def test_what_is_srgb_is_told() -> None:
    for numbers in ((1, 13), (1, 1), (1, 6), (5, 13), (1, 14)):
        code = from_numbers(*numbers)
        assert code is not None
        assert code.is_srgb is (numbers[0] == 1)
    assert from_numbers(2, 13) is None
    assert from_numbers(1, 255) is None
    unspecified, wide = from_nclx(2, 2), from_nclx(12, 2)
    assert unspecified is not None
    assert unspecified.is_srgb
    assert wide == P3


@given(st.integers(0, 255), st.integers(0, 255))
def test_numbers_that_mean_nothing_are_not_guessed(primaries: int, transfer: int) -> None:
    code = from_numbers(primaries, transfer)
    assert (code is None) is (primaries not in colour_codes._PRIMARIES or transfer not in colour_codes._CURVES)


def test_the_matrices_are_those_of_the_standards() -> None:
    """BT.2087 for BT.2020; Display P3 from its chromaticities."""
    wide = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    p3 = [[1.2249, -0.2249, 0], [-0.0421, 1.0421, 0], [-0.0196, -0.0786, 1.0983]]
    for number, expected in ((9, wide), (12, p3)):
        found = colour_codes._to_srgb_light(colour_codes._PRIMARIES[number])
        assert np.asarray(found) == pytest.approx(np.asarray(expected), abs=1e-4)
