"""HEIC as phones, cameras and editors write it: the right picture, upright, with its transparency and colours."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.media import heif_files, pictures
from tests.media.heif_files import BLUE, DEEP, DEEP_GREY, GREEN, MASK, RED, ROSE, YELLOW, grid, heif, picture

from jobqueue.errors import JobError, Permanent, Retry
from jobqueue.media import heic
from jobqueue.media.formats import Format, Probe, probe, sniff
from jobqueue.media.variants import render

if TYPE_CHECKING:
    from pathlib import Path

SHADES = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200), "yellow": (200, 200, 30)}
FOUR = [picture(tile, hidden=True) for tile in (RED, GREEN, BLUE, YELLOW)]


def header(path: Path, content: bytes) -> Probe:
    """What is said of a file of `content`."""
    path.write_bytes(content)
    assert sniff(path) is Format.HEIC
    return probe(path, Format.HEIC, max_pixels=10_000_000)


def shown(path: Path, content: bytes) -> pictures.Pixels:
    """The display variant of a file of `content`."""
    return pictures.decode(render(path, header(path, content)).display.data)


def names(pixels: pictures.Pixels) -> list[str]:
    """The shades in the four quarters, row by row; each is within 3 of 255 of what it is called."""
    height, width = pixels.shape[:2]
    found = []
    for down in (height // 4, 3 * height // 4):
        for across in (width // 4, 3 * width // 4):
            colour = pixels[down, across].astype(int)
            found += [name for name, shade in SHADES.items() if np.abs(colour - shade).max() <= 3] or [str(colour)]
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "source"


def test_a_picture_is_published(path: Path) -> None:
    found = header(path, heif(picture(RED)))
    assert (found.width, found.height, found.bands, found.bits, found.has_alpha, found.pages) == (
        64,
        64,
        3,
        8,
        False,
        1,
    )
    assert np.abs(shown(path, heif(picture(RED))).astype(int) - SHADES["red"]).max() <= 3


@pytest.mark.parametrize("primary", range(4))
def test_the_primary_picture_is_shown_whatever_its_place(path: Path, primary: int) -> None:
    burst = heif(*(picture(tile) for tile in (RED, GREEN, BLUE, YELLOW)), primary=primary)
    assert names(shown(path, burst)) == [list(SHADES)[primary]] * 4


def test_a_grid_is_put_together_and_cropped_to_its_size(path: Path) -> None:
    found = shown(path, heif(grid(2, 2, [1, 2, 3, 4], size=(120, 100)), *FOUR))
    assert found.shape == (100, 120, 3)
    assert names(found) == ["red", "green", "blue", "yellow"]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ([heif_files.turned(1)], ["green", "yellow", "red", "blue"]),
        ([heif_files.turned(2)], ["yellow", "blue", "green", "red"]),
        ([heif_files.turned(3)], ["blue", "red", "yellow", "green"]),
        ([heif_files.mirrored(0)], ["blue", "yellow", "red", "green"]),
        ([heif_files.mirrored(1)], ["green", "red", "yellow", "blue"]),
        ([heif_files.turned(3), heif_files.mirrored(1)], ["red", "blue", "green", "yellow"]),
    ],
)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_it_is_turned_and_mirrored_once_whatever_its_exif_says(
    path: Path, properties: list[bytes], expected: list[str], orientation: int
) -> None:
    items = [
        grid(2, 2, [1, 2, 3, 4], *properties, size=(128, 96)),
        *FOUR,
        heif_files.exif(pictures.exif(orientation)[6:], of=0),
    ]
    assert pictures.exif(orientation).startswith(b"Exif\0\0")
    probed = header(path, heif(*items))
    sideways = expected[:2] not in (["yellow", "blue"], ["blue", "yellow"], ["green", "red"])
    assert (probed.width, probed.height) == ((96, 128) if sideways else (128, 96))
    found = shown(path, heif(*items))
    assert found.shape == (probed.height, probed.width, 3)
    assert names(found) == expected


def test_exif_alone_turns_nothing(path: Path) -> None:
    """What is stored is what is meant: the container has its own boxes for turning."""
    content = heif(grid(2, 2, [1, 2, 3, 4]), *FOUR, heif_files.exif(pictures.exif(6)[6:], of=0))
    assert names(shown(path, content)) == ["red", "green", "blue", "yellow"]


def test_it_is_cropped_before_it_is_turned(path: Path) -> None:
    """The right half, and then turned: green above stands to the right of yellow below, or the other way round."""
    content = heif(grid(2, 2, [1, 2, 3, 4], heif_files.cropped(64, 128, right=32), heif_files.turned(1)), *FOUR)
    found = shown(path, content)
    assert found.shape == (64, 128, 3)
    assert names(found) == ["green", "yellow"] * 2


@pytest.mark.parametrize("of", [RED, ROSE])
def test_alpha_is_kept(path: Path, of: heif_files.Tile) -> None:
    content = heif(picture(of), picture(MASK, heif_files.ALPHA, hidden=True, auxl=[0]))
    assert header(path, content).has_alpha
    found = shown(path, content).astype(int)
    assert found[2, 2, 3] == 0
    assert np.abs(found[32, 32] - (*((200, 30, 30) if of is RED else (200, 60, 60)), 255)).max() <= 3


def test_alpha_that_was_multiplied_in_is_taken_out(path: Path) -> None:
    content = heif(picture(RED, prem=[1]), picture(MASK, heif_files.ALPHA, hidden=True, auxl=[0]))
    assert np.abs(shown(path, content)[32, 32].astype(int) - (200, 30, 30, 255)).max() <= 3


@pytest.mark.parametrize("kind", [heif_files.DEPTH, heif_files.GAIN_MAP])
def test_depth_and_gain_maps_are_not_shown(path: Path, kind: bytes) -> None:
    content = heif(picture(RED), picture(MASK, kind, hidden=True, auxl=[0]))
    assert names(shown(path, content)) == ["red"] * 4


def test_a_thumbnail_is_not_shown(path: Path) -> None:
    content = heif(grid(2, 1, [1, 2]), *FOUR[:2], picture(YELLOW, hidden=True, thmb=[0]))
    assert shown(path, content).shape == (64, 128, 3)
    assert names(shown(path, content)) == ["red", "green"] * 2


def test_a_sequence_shows_its_picture_for_viewers_that_know_none(path: Path) -> None:
    content = heif(picture(RED), brands=(b"hevc", b"msf1", b"mif1", b"heic")) + heif_files.movie(RED, [], at=0)
    assert names(shown(path, content)) == ["red"] * 4


def test_a_sequence_that_is_only_a_track_shows_its_first_picture(path: Path) -> None:
    content = heif_files.sequence(BLUE, RED)
    assert names(shown(path, content)) == ["blue"] * 4
    coloured = heif_files.sequence(ROSE, properties=[heif_files.nclx(12, 13)])
    assert np.abs(shown(path, coloured)[32, 32].astype(int) - (217, 42, 52)).max() <= 3
    path.write_bytes(content[:50] + content[80:])
    with pytest.raises(Permanent, match="HEIC"):
        render(path, probe(path, sniff(path), max_pixels=1_000_000))


@pytest.mark.parametrize(
    ("tile", "colours", "expected"),
    [
        (ROSE, [], (200, 60, 60)),
        (ROSE, [heif_files.nclx(1, 13)], (200, 60, 60)),
        (ROSE, [heif_files.nclx(12, 13)], (217, 42, 52)),
        (ROSE, [heif_files.nclx(2, 2)], (200, 60, 60)),
        (DEEP, [], (147, 102, 76)),
        (DEEP_GREY, [heif_files.nclx(9, 16)], (229, 229, 229)),
        (DEEP_GREY, [], (148, 148, 148)),
    ],
)
def test_colours_are_those_of_the_numbers_in_the_file(
    path: Path, tile: heif_files.Tile, colours: list[bytes], expected: tuple[int, ...]
) -> None:
    found = shown(path, heif(picture(tile, *colours)))
    assert np.abs(found[32, 32].astype(int) - expected).max() <= 3


def test_a_profile_decides_before_the_numbers(path: Path) -> None:
    display_p3 = bytes(pictures.vips(pictures.gradient(8, 8)).icc_transform("p3").get("icc-profile-data"))
    for boxes in ([heif_files.profile(display_p3)], [heif_files.nclx(1, 13), heif_files.profile(display_p3)]):
        found = shown(path, heif(picture(ROSE, *boxes)))
        assert np.abs(found[32, 32].astype(int) - (217, 42, 52)).max() <= 3
    srgb = heif(picture(ROSE, heif_files.nclx(12, 13), heif_files.profile(pictures.srgb_profile())))
    assert np.abs(shown(path, srgb)[32, 32].astype(int) - (200, 60, 60)).max() <= 3


def test_no_metadata_is_left(path: Path) -> None:
    place = heif_files.exif(pictures.exif(1, gps=True)[6:], of=0)
    assert b"SecretCamera" in heif(picture(RED), place)
    for variant in render(path, header(path, heif(picture(RED), place))):
        assert b"Secret" not in variant.data
        assert b"Exif" not in variant.data


@pytest.mark.slow
def test_a_grid_of_hundreds_of_tiles_is_published(path: Path) -> None:
    found = shown(path, heif(grid(24, 18, list(range(1, 433))), *[FOUR[1]] * 432))
    assert found.shape == (1152, 1536, 3)
    assert names(found) == ["green"] * 4


def test_more_parts_than_the_decoder_takes_are_told_from_want_of_memory(path: Path) -> None:
    path.write_bytes(heif(grid(40, 30, list(range(1, 1201))), *[FOUR[1]] * 1200))
    with pytest.raises(Permanent, match="has too many parts: 1201; its decoder takes at most 1000"):
        probe(path, sniff(path), max_pixels=10_000_000)


def test_too_many_pixels_are_refused_on_the_header(path: Path) -> None:
    path.write_bytes(heif(grid(2, 2, [1, 2, 3, 4], heif_files.turned(1), size=(128, 96)), *FOUR))
    with pytest.raises(Permanent, match=r"96 x 128 = 12,288 pixels; at most 12,287"):
        probe(path, sniff(path), max_pixels=12_287)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_short_is_refused(path: Path, part: float) -> None:
    whole = heif(grid(2, 2, [1, 2, 3, 4]), *FOUR)
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(
        Permanent, match=r"^The HEIC picture (is cut short or damaged|cannot be decoded): .+\.$"
    ) as refused:
        render(path, probe(path, sniff(path), max_pixels=1_000_000))
    assert str(path) not in str(refused.value)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_ends_in_anything_but_variants_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.heic"
    content = bytearray(heif(grid(2, 2, [1, 2, 3, 4]), *FOUR, picture(MASK, heif_files.ALPHA, hidden=True, auxl=[0])))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(24, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    reason = ""
    try:
        render(path, probe(path, Format.HEIC, max_pixels=1_000_000))
    except JobError as error:
        reason = str(error)
    assert str(path) not in reason


def test_metadata_that_would_expand_is_not_unpacked(path: Path) -> None:
    packed = zlib.compress(b"\0" * 40_000_000)
    more = b"application/rdf+xml\0deflate\0"
    content = heif(picture(RED), heif_files.Item(b"mime", packed, references={b"cdsc": [0]}, hidden=True, more=more))
    assert names(shown(path, content)) == ["red"] * 4


def test_metadata_that_lies_beyond_the_end_costs_nothing(path: Path) -> None:
    content = heif(picture(RED), heif_files.exif(b"Nowhere" * 9, of=0))
    at, end = content.index(b"Nowhere") - 4, len(content)
    assert content.count(struct.pack(">II", at, end - at)) == 1
    path.write_bytes(content.replace(struct.pack(">II", at, end - at), struct.pack(">II", 1 << 30, 77)))
    assert names(shown(path, path.read_bytes())) == ["red"] * 4


def test_want_of_memory_is_never_the_pictures_fault() -> None:
    for error in (MemoryError(), RuntimeError("Memory allocation error: Unspecified")):
        assert isinstance(heic.failure(error), Retry)
    limit = RuntimeError(
        "Memory allocation error: Security limit exceeded: Allocating 9 bytes exceeds the security limit of 8"
    )
    assert isinstance(heic.failure(limit), Permanent)


def test_whatever_libheif_says_becomes_a_sentence() -> None:
    assert str(heic.failure(ValueError(""))) == "The HEIC picture cannot be decoded: the decoder gave no reason."
    assert (
        str(heic.failure(ValueError("Invalid input: Bad.\n")))
        == "The HEIC picture cannot be decoded: Invalid input: Bad."
    )
