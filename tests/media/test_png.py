"""PNG: colours by chunks, in the order that the specification gives them, and ancillary data that costs nothing."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.media import pictures
from tests.media.pictures import assert_colour, shown
from tests.media.png_files import (
    P3_CHROMATICITIES,
    SRGB,
    SRGB_CHROMATICITIES,
    chromaticities,
    chunk,
    cicp,
    gamma,
    png,
    profile,
)

from jobqueue.errors import JobError, Permanent
from jobqueue.media import png_chunks
from jobqueue.media.formats import Format, probe, sniff

if TYPE_CHECKING:
    from pathlib import Path

ROSE, IN_SRGB, BY_POWER = (200, 60, 60), (217, 42, 52), (219, 37, 49)
PQ_WHITE = round(0.58069 * 65535)


def display_p3() -> bytes:
    return bytes(pictures.vips(pictures.gradient(8, 8)).icc_transform("p3").get("icc-profile-data"))


@pytest.mark.parametrize(
    ("pixel", "chunks", "expected"),
    [
        (ROSE, [cicp(12, 13)], IN_SRGB),
        (ROSE, [cicp(1, 13)], ROSE),
        (ROSE, [cicp(12, 13, matrix=1)], ROSE),  # no PNG: passed over
        (ROSE, [cicp(2, 2), gamma(45455), P3_CHROMATICITIES], BY_POWER),  # not understood: the next one decides
        (ROSE, [cicp(12, 13), SRGB], IN_SRGB),
        (ROSE, [SRGB, gamma(45455), P3_CHROMATICITIES], ROSE),
        (ROSE, [gamma(45455), P3_CHROMATICITIES], BY_POWER),
        (ROSE, [P3_CHROMATICITIES], IN_SRGB),
        (ROSE, [gamma(45455)], ROSE),
        (ROSE, [gamma(45455), SRGB_CHROMATICITIES], ROSE),
        (ROSE, [gamma(0)], ROSE),
        (ROSE, [chromaticities(1, 1, 1, 1, 1, 1, 1, 1)], ROSE),  # on a line
        (ROSE, [chromaticities(0, 0, 0, 0, 0, 0, 0, 0)], ROSE),
        (ROSE, [chromaticities(31270, 32900)], ROSE),
        ((*ROSE, 128), [cicp(12, 13)], (*IN_SRGB, 128)),
        ((90,), [cicp(12, 13)], (90, 90, 90)),
        ((90, 128), [gamma(100000)], (160, 160, 160, 128)),
        ((16, 235, 126), [cicp(1, 13, full_range=0)], (0, 255, 128)),
    ],
)  # fmt: skip
def test_colours_of_8_bits(
    tmp_path: Path, pixel: tuple[int, ...], chunks: list[bytes], expected: tuple[int, ...]
) -> None:
    (tmp_path / "a").write_bytes(png(pixel, *chunks))
    assert_colour(shown(tmp_path / "a"), expected)


@pytest.mark.parametrize(
    ("pixel", "chunks", "expected"),
    [
        ([PQ_WHITE] * 3, [cicp(9, 16)], (229, 229, 229)),
        ([round(0.508 * 65535)] * 3, [cicp(9, 16)], (186, 186, 186)),
        ([PQ_WHITE], [cicp(9, 16)], (229, 229, 229)),
        ([*[PQ_WHITE] * 3, 32768], [cicp(9, 16)], (229, 229, 229, 128)),
        ([round(0.75 * 65535)] * 3, [cicp(9, 18)], (229, 229, 229)),
        ([round(0.21404 * 65535)] * 3, [gamma(100000)], (128, 128, 128)),
        ([round(0.0331 * 65535)] * 3, [gamma(100000)], (51, 51, 51)),
        ([200 * 257, 60 * 257, 60 * 257], [cicp(12, 13)], IN_SRGB),
    ],
)
def test_colours_of_16_bits(tmp_path: Path, pixel: list[int], chunks: list[bytes], expected: tuple[int, ...]) -> None:
    (tmp_path / "a").write_bytes(png(tuple(pixel), *chunks, deep=True))
    assert_colour(shown(tmp_path / "a"), expected)


def test_a_profile_stands_behind_numbers_and_before_measures(tmp_path: Path) -> None:
    for chunks, expected in (
        ([profile(display_p3())], IN_SRGB),
        ([profile(display_p3()), gamma(100000), SRGB_CHROMATICITIES], IN_SRGB),
        ([cicp(1, 13), profile(display_p3())], ROSE),
        ([cicp(12, 13), profile(pictures.srgb_profile())], IN_SRGB),
        ([cicp(2, 2), profile(display_p3())], IN_SRGB),
        ([profile(b"no profile"), gamma(45455), P3_CHROMATICITIES], BY_POWER),
    ):
        (tmp_path / "a").write_bytes(png(ROSE, *chunks))
        assert_colour(shown(tmp_path / "a"), expected)


def test_a_large_picture_is_converted_behind_its_reduction_and_stands_upright(tmp_path: Path) -> None:
    upright = pictures.gradient(3400, 1700)
    pictures.save(tmp_path / "a.png", pictures.unturned(upright, 6), exif=pictures.exif(6), compress_level=1)
    plain = shown(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:33] + gamma(50000) + content[33:])
    found = shown(tmp_path / "a.png")
    assert found.shape == plain.shape == (800, 1600, 3)
    light = (plain / 255.0) ** 2
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert pictures.psnr(found, expected.round().astype(np.uint8)) > 38


def test_a_palette_is_converted_too(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), ROSE).quantize(4).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:33] + cicp(12, 13) + content[33:])
    assert_colour(shown(tmp_path / "a.png"), IN_SRGB)


def test_keywords_in_latin_1_are_legal(tmp_path: Path) -> None:
    text = chunk(b"tEXt", "Größe".encode("latin-1") + b"\0klein")
    for where in (png(ROSE, text), png(ROSE, after=text)):
        (tmp_path / "a").write_bytes(where)
        assert_colour(shown(tmp_path / "a"), ROSE)


PACKED = zlib.compress(b"a" * 32_000_000)
EXPANDING = {
    "zTXt": chunk(b"zTXt", b"k\0\0" + PACKED),
    "iTXt": chunk(b"iTXt", b"k\0\1\0\0\0" + PACKED),
    "many": b"".join(chunk(b"zTXt", b"k%d\0\0" % index + zlib.compress(b"a" * 4_000_000)) for index in range(8)),
    "iCCP": chunk(b"iCCP", b"k\0\0" + PACKED),
    "tEXt": chunk(b"tEXt", b"k\0" + b"a" * 16_000_000),
    "eXIf": chunk(b"eXIf", b"MM\0*" + b"a" * 16_000_000),
    "sPLT": chunk(b"sPLT", b"name\0\x08" + b"abcdef" * 2_000_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPANDING)
def test_ancillary_data_takes_no_memory_that_was_not_counted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(png(ROSE, EXPANDING[kind]))
    looked, published = pictures.growth(path)
    assert looked < 4_000_000
    assert published < probe(path, Format.PNG, max_pixels=10_000).memory_bytes
    assert_colour(shown(path), ROSE)


def test_what_is_left_out_takes_no_colours_with_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(png(ROSE, EXPANDING["zTXt"], cicp(12, 13)))
    assert_colour(shown(tmp_path / "a"), IN_SRGB)


def test_an_ordinary_file_is_read_as_it_is(tmp_path: Path) -> None:
    text = b"k\0" + b"a" * 60_000
    (tmp_path / "a").write_bytes(png(ROSE, chunk(b"tEXt", text), chunk(b"zTXt", b"k\0\0" + zlib.compress(b"b" * 900))))
    assert png_chunks.shown_parts(tmp_path / "a") is None


def test_far_too_many_chunks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(png(ROSE, chunk(b"tEXt", b"k\0a") * 20_001))
    with pytest.raises(Permanent, match="too many parts: more than 20,000 before its pixels"):
        probe(tmp_path / "a", Format.PNG, max_pixels=10_000)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_to_chunks_raises_anything_but_a_reason(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    content = bytearray(png(ROSE, cicp(12, 13), gamma(45455), P3_CHROMATICITIES, chunk(b"iTXt", b"k\0\1\0\0\0abc")))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    reason = ""
    try:
        probe(path, sniff(path), max_pixels=10_000)  # the size may be damaged, too
        shown(path)
    except JobError as error:
        reason = str(error)
    assert str(path) not in reason
