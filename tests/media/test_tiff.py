"""TIFF as scanners, prepress and science write it: the right colours, or a reason; no part of it lost in silence."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.media import pictures, tiff_files
from tests.media.pictures import assert_colour, publish, shown
from tests.media.tiff_files import DEFLATE, SUBFILE, ZSTD, Page, flat, halves, tiff

from jobqueue.errors import JobError, Permanent
from jobqueue.media.formats import Format, probe, sniff
from jobqueue.media.tiff_layout import read_layout

if TYPE_CHECKING:
    from pathlib import Path

WHITE_IS_ZERO, GREY, RGB, PALETTE, CMYK, YCBCR, LAB, ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
LAYOUTS: dict[str, dict[str, Any]] = {
    "a strip": {},
    "strips": {"rows": 7},
    "tiles": {"tile": 32},
    "deflated": {"tile": 16, "compression": DEFLATE},
    "a plane": {"planar": True},
    "planes": {"planar": True, "rows": 7, "compression": DEFLATE},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "source"


def sides(path: Path, content: bytes) -> tuple[pictures.Pixels, list[tuple[int, ...]]]:
    """The display variant of `content`, and the colours left and right."""
    path.write_bytes(content)
    pixels = shown(path)
    at = pixels.shape[0] // 2, pixels.shape[1]
    return pixels, [tuple(map(int, pixels[at[0], at[1] * part // 8])) for part in (2, 6)]


def check(path: Path, page: Page, left: tuple[int, ...], right: tuple[int, ...], **options: Any) -> None:
    """The halves of a picture of one page have these colours."""
    path.write_bytes(tiff(page, **options))
    pixels = shown(path)
    assert_colour(pixels, left, across=0.25)
    assert_colour(pixels, right, across=0.75)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("photometric", "samples", "extra", "expected"),
    [
        (GREY, ((60,), (180,)), [], ((60,) * 3, (180,) * 3)),
        (WHITE_IS_ZERO, ((195,), (75,)), [], ((60,) * 3, (180,) * 3)),
        (GREY, ((60, 255), (180, 128)), [2], ((60, 60, 60, 255), (180, 180, 180, 128))),
        (WHITE_IS_ZERO, ((195, 255), (75, 128)), [2], ((60, 60, 60, 255), (180, 180, 180, 128))),
        (GREY, ((60, 0), (180, 0)), [0], ((60,) * 3, (180,) * 3)),
        (RGB, ((200, 60, 30), (30, 160, 60)), [], ((200, 60, 30), (30, 160, 60))),
        (RGB, ((200, 60, 30, 255), (30, 160, 60, 128)), [2], ((200, 60, 30, 255), (30, 160, 60, 128))),
        (RGB, ((200, 60, 30, 255), (30, 160, 60, 128)), [], ((200, 60, 30, 255), (30, 160, 60, 128))),
        (RGB, ((200, 60, 30, 0), (30, 160, 60, 9)), [0], ((200, 60, 30), (30, 160, 60))),
        (RGB, ((200, 60, 30, 0, 255), (30, 160, 60, 9, 128)), [0, 2], ((200, 60, 30, 255), (30, 160, 60, 128))),
        (RGB, ((200, 60, 30, 255, 7), (30, 160, 60, 128, 7)), [2, 0], ((200, 60, 30, 255), (30, 160, 60, 128))),
    ],
)  # fmt: skip
def test_grey_and_rgb_in_every_layout(
    path: Path,
    layout: str,
    deep: bool,
    photometric: int,
    samples: tuple[tuple[int, ...], tuple[int, ...]],
    extra: list[int],
    expected: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    left, right = ([257 * value for value in side] if deep else side for side in samples)
    page = Page(halves(tuple(left), tuple(right), "u2" if deep else "u1"), photometric, extra=extra, **LAYOUTS[layout])
    check(path, page, *expected)
    found = probe(path, Format.TIFF, max_pixels=10_000)
    assert found.has_alpha is (len(expected[0]) == 4)


def test_colours_that_alpha_was_multiplied_into(path: Path) -> None:
    check(path, Page(halves((100, 30, 15, 128), (30, 160, 60, 255)), extra=[1]), (200, 60, 30, 128), (30, 160, 60, 255))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spot_colours_leave_the_inks_as_they_are(path: Path, layout: str) -> None:
    inks = ((20, 200, 220, 10), (200, 20, 30, 0))
    _, plain = sides(path, tiff(Page(halves(*inks), CMYK, **LAYOUTS["a strip"])))
    spots = halves((*inks[0], 0, 77), (*inks[1], 255, 3))
    pixels, found = sides(path, tiff(Page(spots, CMYK, extra=[0, 0], **LAYOUTS[layout])))
    assert pixels.shape[2] == 3
    assert np.abs(np.subtract(found, plain)).max() <= 3
    assert plain[0][0] > 190


def test_inks_of_16_bits(path: Path) -> None:
    _, plain = sides(path, tiff(Page(halves((20, 200, 220, 10), (200, 20, 30, 0)), CMYK)))
    _, deep = sides(
        path, tiff(Page(halves((20 * 257, 200 * 257, 220 * 257, 2570), (200 * 257, 20 * 257, 7710, 0), "u2"), CMYK))
    )
    assert np.abs(np.subtract(deep, plain)).max() <= 3


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_32_bits_and_floating_points(path: Path, order: Literal["<", ">"], big: bool) -> None:
    most = 2**32 - 1
    for photometric, low, high in ((GREY, 0.2, 0.8), (WHITE_IS_ZERO, 0.8, 0.2)):
        page = Page(halves((round(low * most),), (round(high * most),), "u4"), photometric, order=order)
        check(path, page, (51,) * 3, (204,) * 3, big=big)
        for dtype in ("f4", "f2"):
            check(path, Page(halves((low,), (high,), dtype), photometric, order=order), (124,) * 3, (231,) * 3, big=big)
    page = Page(halves((0.2, 0.5, 0.0), (1.0, 0.8, 0.05), "f4"), RGB, order=order)
    check(path, page, (124, 188, 0), (255, 231, 63), big=big)
    page = Page(halves((most // 5, most // 2, 0), (most, 0, most // 5), "u4"), RGB, order=order)
    check(path, page, (51, 128, 0), (255, 0, 51), big=big)


def test_floating_points_with_alpha_and_with_light_above_white(path: Path) -> None:
    check(
        path,
        Page(halves((0.2, 0.2, 0.2, 1.0), (7.5, 0.8, 0.0, 0.5), "f4"), RGB, extra=[2]),
        (124, 124, 124, 255),
        (255, 231, 0, 128),
    )
    check(path, Page(halves((-0.3, 0.2, 0.2), (0.0, 0.8, 0.0), "f4"), RGB), (0, 124, 124), (0, 231, 0))


def test_lab(path: Path) -> None:
    expected = ((218, 89, 65), (84, 98, 169))
    lab = ((140, 50, 40), (110, 10, 256 - 40))
    check(path, Page(halves(*lab), LAB), *expected)
    check(path, Page(halves(*lab), LAB, tile=16, compression=DEFLATE), *expected)
    check(path, Page(halves((140, 178, 168), (110, 138, 88)), ICC_LAB), *expected)
    deep = halves((140 * 257, 50 * 256, 40 * 256), (110 * 257, 10 * 256, -40 * 256 & 65535), "u2")
    check(path, Page(deep, LAB), *expected)
    offset = halves((140 * 256, 178 * 256, 168 * 256), (110 * 256, 138 * 256, 88 * 256), "u2")
    check(path, Page(offset, ICC_LAB), *expected)
    check(path, Page(halves((*lab[0], 255), (*lab[1], 128)), LAB, extra=[2]), (*expected[0], 255), (*expected[1], 128))


def test_lab_is_what_pillow_makes_of_it(path: Path) -> None:
    """A second decoder, with another library for the colours."""
    from PIL import ImageCms

    pixels = np.dstack([np.linspace(20, 230, 64 * 48).reshape(48, 64), flat(20, 236)]).astype(np.uint8)
    path.write_bytes(tiff(Page(pixels, LAB)))
    with Image.open(path) as image:
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        other = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert pictures.psnr(shown(path), np.asarray(other)) > 34


def test_ycbcr(path: Path) -> None:
    whole = {530: [1, 1], 532: [(0, 1), (255, 1), (128, 1), (255, 1), (128, 1), (255, 1)]}
    for layout in LAYOUTS.values():
        page = Page(halves((110, 83, 192), (150, 128, 128)), YCBCR, tags=whole, **layout)
        check(path, page, (200, 79, 30), (150, 150, 150))
    check(
        path, Page(halves((110, 83, 192), (150, 128, 128)), YCBCR, tags={530: [1, 1]}), (200, 79, 30), (150, 150, 150)
    )
    narrow = {530: [1, 1], 532: [(16, 1), (235, 1), (128, 1), (240, 1), (128, 1), (240, 1)]}
    check(path, Page(halves((16, 128, 128), (235, 128, 128)), YCBCR, tags=narrow), (0, 0, 0), (255, 255, 255))
    other = {530: [1, 1], 529: [(2126, 10000), (7152, 10000), (722, 10000)]}
    check(path, Page(halves((110, 83, 192), (150, 128, 128)), YCBCR, tags=other), (211, 88, 26), (150, 150, 150))


def test_ycbcr_with_half_the_chroma(path: Path) -> None:
    """Four of luminance and two of chroma in a unit, for two rows and two columns."""
    unit = bytes((110, 110, 110, 110, 83, 192))
    for tags in ({530: [2, 2]}, {}):
        page = Page(flat(0, 0, 0), YCBCR, tags=tags, packed=[unit * (32 * 24)])
        check(path, page, (200, 79, 30), (200, 79, 30))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_in_tiff(path: Path, subsampling: str) -> None:
    pixels = pictures.gradient()
    Image.fromarray(pixels).convert("YCbCr" if subsampling == "4:4:4" else "RGB").save(
        path, "TIFF", compression="jpeg", quality=95
    )
    assert pictures.psnr(shown(path), pixels) > 34


def test_of_several_pages_the_first_that_is_no_smaller_copy_is_shown(path: Path) -> None:
    small = Page(flat(200, 60, 30, width=32, height=24), tags={SUBFILE: [1]})
    mask = Page(flat(255, width=96, height=64), 4, tags={SUBFILE: [4]})
    whole, later = Page(flat(30, 160, 60, width=96, height=64)), Page(flat(30, 60, 160, width=50, height=50))
    for pages in ([small, whole, later], [small, mask, small, whole], [whole, small], [whole, later]):
        path.write_bytes(tiff(*pages))
        assert_colour(shown(path), (30, 160, 60))
        assert shown(path).shape == (64, 96, 3)
        found = probe(path, Format.TIFF, max_pixels=96 * 64)
        assert (found.width, found.height, found.pages) == (96, 64, len(pages))
    path.write_bytes(tiff(small))
    assert_colour(shown(path), (200, 60, 30))


def raw(**tags: list[Any]) -> bytes:
    return tiff(Page(flat(200, 60, 30), tags={int(tag[1:]): values for tag, values in tags.items()}))


def test_camera_raw_is_told_by_what_only_raw_has(path: Path) -> None:
    sensor = tiff(Page(flat(9), 32803))
    preview = tiff(Page(flat(200, 60, 30), tags={SUBFILE: [1], 330: [0]}))
    # The directory of the sensor's pixels stands behind the preview, and the preview names it (a type of 4 bytes).
    within = preview.replace(
        struct.pack("<HHI", 330, 3, 1) + b"\0\0\0\0", struct.pack("<HHII", 330, 4, 1, len(preview))
    )
    assert within != preview
    for content in (
        raw(t50706=[1, 4]),
        sensor,
        tiff(Page(flat(200, 60, 30), tags={SUBFILE: [1]}), Page(flat(9, width=99), 32803)),
        within + tiff_files.tiff(Page(flat(9), 32803))[8:],
        b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 40,
    ):
        path.write_bytes(content)
        with pytest.raises(Permanent, match="is a camera raw file"):
            probe(path, sniff(path), max_pixels=100_000)
    for tags in ({SUBFILE: [1]}, {330: [0]}, {330: [65000]}, {271: [78, 73, 75, 79]}):
        path.write_bytes(tiff(Page(flat(200, 60, 30), tags=tags)))
        assert_colour(shown(path), (200, 60, 30))


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(halves((-9,), (9,), "i1"), GREY), "cannot be shown rightly: its samples are signed"),
        (Page(halves((-9,) * 3, (9,) * 3, "i2"), RGB), "cannot be shown rightly: its samples are signed"),
        (Page(flat(0.2, 0.3, 0.4, dtype="f4"), LAB), "cannot be shown rightly: its colours are no red, green and blue"),
        (Page(flat(0.2, 0.3, 0.4, 0.1, dtype="f4"), CMYK), "cannot be shown rightly"),
        (Page(flat(900.0, dtype="f4"), GREY), "cannot be shown rightly: its samples reach 900, and white is 1"),
        (Page(flat(900.0, 2.0, 1.0, dtype="f4"), RGB), "cannot be shown rightly: its samples reach 900, and white is 1"),
        (Page(flat(1, 2, 3, 4, dtype="u4"), CMYK), "cannot be shown rightly: its samples have 32 bits"),
        (Page(flat(1, 2, 3), YCBCR, tile=16), "cannot be shown rightly: its chroma is reduced, in tiles"),
        (Page(flat(1, 2, 3, 4), CMYK, tags={332: [2]}), "cannot be shown rightly: its inks are not cyan, magenta"),
        (Page(flat(1, 2), RGB), "cannot be shown rightly: it has 2 samples a pixel"),
        (Page(flat(1, 2, 3), 10), "cannot be shown rightly: its colours (photometric interpretation 10) are not known"),
        (Page(flat(1, 2, 3), tags={339: [6, 6, 6]}), "cannot be shown rightly: its samples are of an unknown format"),
        (Page(flat(1.0, dtype="f8"), GREY), "cannot be decoded: samples out of range"),
        (Page(flat(1, dtype="u8"), GREY), "cannot be decoded: samples out of range"),
        (Page(flat(1, 2, 3), planar=True, tile=16), "cannot be decoded: tiled separate planes not supported"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_rightly_is_refused(path: Path, page: Page, reason: str) -> None:
    path.write_bytes(tiff(page))
    with pytest.raises(Permanent) as refused:
        publish(path)
    assert reason in str(refused.value)


def damaged(kind: str, layout: dict[str, Any]) -> bytes:
    """A file of four strips or tiles, of which the second is lost in the way that `kind` says."""
    noise = pictures.noise(64, 64)
    page = Page(noise, compression=DEFLATE, **layout)
    content = tiff(page)
    second = page.blocks()[1]
    at = content.index(second)
    match kind:
        case "cut":
            return content[: at + len(second) // 2]
        case "broken":
            return content.replace(second, second[:200] + b"\xff" * 400 + second[600:])
        case "beyond":
            return content.replace(struct.pack("<I", at), struct.pack("<I", 1 << 30))
        case "codec":
            return content.replace(struct.pack("<HHIH", 259, 3, 1, DEFLATE), struct.pack("<HHIH", 259, 3, 1, ZSTD))
    raise ValueError(kind)


@pytest.mark.parametrize("layout", [{"rows": 16}, {"tile": 32}])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("cut", "is cut short or damaged"),
        ("broken", "is cut short or damaged|cannot be decoded"),
        ("beyond", "is cut short or damaged"),
        ("codec", "cannot be decoded: ZSTD compression support is not configured"),
    ],
)
def test_a_lost_strip_or_tile_is_a_damaged_file(path: Path, layout: dict[str, Any], kind: str, reason: str) -> None:
    path.write_bytes(damaged(kind, layout))
    with pytest.raises(Permanent, match=f"^The TIFF picture ({reason})"):
        publish(path)


def test_a_lost_tile_is_found_in_a_sloppy_file_too(path: Path) -> None:
    page = Page(pictures.noise(64, 64), tile=32, compression=DEFLATE, tags={tiff_files.ORIENTATION: [1, 1]})
    content, second = tiff(page), page.blocks()[1]
    path.write_bytes(content)
    publish(path)
    path.write_bytes(content.replace(second, second[:200] + b"\xff" * 400 + second[600:]))
    with pytest.raises(Permanent):
        publish(path)


@pytest.mark.parametrize("layout", [{"rows": 8}, {"rows": 100}, {"tile": 64}])
def test_damage_in_the_middle_of_grey_is_found(path: Path, layout: dict[str, Any]) -> None:
    noise = pictures.noise(256, 256)[:, :, :1] // 2 + 100
    content = tiff(Page(noise, GREY, compression=DEFLATE, **layout))
    third = len(content) // 3
    path.write_bytes(content[:third] + b"\xff" * third + content[2 * third :])
    with pytest.raises(Permanent):
        publish(path)


def test_one_files_damage_is_not_anothers(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(tiff(Page(pictures.gradient(256, 256), tile=64, compression=DEFLATE)))
    bad.write_bytes(damaged("broken", {"tile": 32}))
    ends: list[str] = []

    def one(path: Path) -> None:
        try:
            publish(path)
            ends.append(f"{path.name} published")
        except Permanent:
            ends.append(f"{path.name} refused")

    threads = [threading.Thread(target=one, args=(path,)) for path in [good, bad] * 12]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["bad refused"] * 12 + ["good published"] * 12


@pytest.mark.parametrize("tile", [None, 32])
def test_sloppy_but_whole_files_are_shown(path: Path, tile: int | None) -> None:
    """Tags out of order, unknown ones, text without its end, sizes that are missing: what every viewer passes over."""
    page = Page(halves((200, 60, 30), (30, 160, 60)), tile=tile, tags={65000: [7], 305: b"scan", 282: [(0, 0)]})
    content = tiff(page)
    begin = 10
    entries = [content[begin + 12 * at : begin + 12 * at + 12] for at in range(struct.unpack_from("<H", content, 8)[0])]
    for order in (entries[1:2] + entries[:1] + entries[2:], entries):
        check_content = content[:begin] + b"".join(order) + content[begin + 12 * len(entries) :]
        _, found = sides(path, check_content)
        assert np.abs(np.subtract(found, [(200, 60, 30), (30, 160, 60)])).max() <= 3


def test_offsets_to_nowhere_raise_nothing(path: Path) -> None:
    for head in (
        b"II" + struct.pack("<HHHQ", 43, 8, 0, 1 << 63) + b"\0" * 16,
        b"MM" + struct.pack(">HHHQ", 43, 8, 0, (1 << 64) - 1),
        b"II*\0" + struct.pack("<I", 0xFFFFFFFF),
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0",
    ):
        path.write_bytes(head)
        with pytest.raises(Permanent, match=r"^The TIFF picture (is cut short or damaged|cannot be decoded)"):
            probe(path, sniff(path), max_pixels=10_000)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_directory_raises_anything(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.tif"
    page = Page(flat(110, 83, 192, 9), extra=[2], tags={SUBFILE: [1], 330: [8], 529: [(1, 3)] * 3, 530: [1, 1]})
    content = bytearray(tiff(page, page, big=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(4, 400))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    layout = read_layout(path)
    assert layout.metadata_bytes >= 0
    reason = ""
    try:
        probe(path, Format.TIFF, max_pixels=10_000)
        publish(path)
    except JobError as error:
        reason = str(error)
    assert str(path) not in reason


def test_a_profile_of_floating_points_and_of_32_bits_decides(path: Path) -> None:
    display_p3 = bytes(pictures.vips(pictures.gradient(8, 8)).icc_transform("p3").get("icc-profile-data"))
    coded = tuple(value / 255 for value in (200, 60, 60))
    for samples in (halves(coded, coded, "f4"), flat(*(round(value * (2**32 - 1)) for value in coded), dtype="u4")):
        path.write_bytes(tiff(Page(samples, tags={34675: display_p3})))
        assert_colour(shown(path), (217, 42, 52))
