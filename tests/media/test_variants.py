"""Two variants from one decode: right size, right way up, right colours, nothing else in the file; damage is refused."""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.media import pictures
from tests.media.pictures import publish, shown

from jobqueue.errors import JobError, Permanent
from jobqueue.media import colour, variants
from jobqueue.media.formats import Format, probe, sniff
from jobqueue.media.variants import RECIPE, Variant, render

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


def test_two_variants_fit_their_boxes_and_are_webp(tmp_path: Path) -> None:
    thumb, display = publish(pictures.save(tmp_path / "a.jpg", pictures.gradient(3000, 2000)))
    assert (thumb.name, thumb.width, thumb.height) == ("thumb", 400, 267)
    assert (display.name, display.width, display.height) == ("display", 1600, 1067)
    for variant in (thumb, display):
        assert variant.data[:4] == b"RIFF"
        assert variant.data[8:12] == b"WEBP"
        assert pictures.decode(variant.data).shape == (variant.height, variant.width, 3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95}),
        ("progressive.jpg", {"quality": 95, "progressive": True}),
        ("a.png", {}),
        ("a.webp", {"quality": 95}),
        ("lossless.webp", {"lossless": True}),
        ("a.avif", {"quality": 95}),
        ("raw.tif", {}),
        ("lzw.tif", {"compression": "tiff_lzw"}),
        ("deflate.tif", {"compression": "tiff_adobe_deflate"}),
        ("jpeg.tif", {"compression": "jpeg"}),
    ],
)
@pytest.mark.parametrize("width", [300, 2000])
def test_every_format_shows_its_pixels(tmp_path: Path, name: str, options: dict[str, Any], width: int) -> None:
    pixels = pictures.gradient(width, width * 3 // 4)
    path = pictures.save(tmp_path / name, pixels, **options)
    expected = pictures.gradient(1600, 1200) if width == 2000 else pixels
    assert pictures.psnr(shown(path), expected) > 38


def test_a_gif_and_a_palette_png_show_their_pixels(tmp_path: Path) -> None:
    palette = Image.fromarray(pictures.gradient()).quantize(64, dither=Image.Dither.NONE)
    expected = np.asarray(palette.convert("RGB"))
    for name in ("a.gif", "a.png", "a.tif"):
        palette.save(tmp_path / name)
        assert pictures.psnr(shown(tmp_path / name), expected) > 30


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_stands_upright(tmp_path: Path, orientation: int, name: str) -> None:
    upright = pictures.gradient()
    stored = pictures.unturned(upright, orientation)
    path = tmp_path / name
    pictures.tagged(pictures.vips(stored), orientation).write_to_file(str(path), Q=95)
    assert pictures.psnr(shown(path), upright) > 38


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(tmp_path: Path, orientation: int) -> None:
    path = pictures.save(tmp_path / "a.jpg", pictures.gradient(), quality=95, exif=pictures.exif(orientation))
    assert pictures.psnr(shown(path), pictures.gradient()) > 38


@pytest.mark.extended
def test_large_rotated_photographs_fit_the_box_upright(tmp_path: Path) -> None:
    upright = pictures.gradient(2000, 3000)
    path = tmp_path / "a.jpg"
    pictures.tagged(pictures.vips(pictures.unturned(upright, 6)), 6).write_to_file(str(path), Q=95)
    thumb, display = publish(path)
    assert (display.width, display.height, thumb.width, thumb.height) == (1067, 1600, 267, 400)
    assert pictures.psnr(pictures.decode(display.data), pictures.gradient(1067, 1600)) > 38


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_wide_gamut_becomes_srgb(tmp_path: Path, name: str) -> None:
    pixels = pictures.gradient()
    pictures.vips(pixels).icc_transform("p3").write_to_file(str(tmp_path / name), Q=98)
    with Image.open(tmp_path / name) as stored:
        assert "icc_profile" in stored.info
        assert pictures.psnr(np.asarray(stored.convert("RGB")), pixels) < 32  # untouched, the colours would be wrong
    assert pictures.psnr(shown(tmp_path / name), pixels) > 38


def test_a_profile_is_judged_by_its_numbers_and_not_by_its_name(tmp_path: Path) -> None:
    assert colour.is_srgb(pictures.srgb_profile())
    assert not colour.is_srgb(pictures.swapped_profile())
    pixels = pictures.gradient()
    swapped = np.ascontiguousarray(pixels[:, :, [1, 0, 2]])
    path = pictures.save(tmp_path / "a.png", swapped, icc_profile=pictures.swapped_profile())
    assert pictures.psnr(shown(path), pixels) > 35


@pytest.mark.parametrize("space", ["srgb", "p3"])
def test_libvips_own_profiles_are_told_apart(space: str) -> None:
    image = pictures.vips(pictures.gradient(8, 8)).icc_transform(space)
    assert colour.is_srgb(bytes(image.get("icc-profile-data"))) is (space == "srgb")


@pytest.mark.parametrize("gamma", [1.8, 2.2, None])
def test_tone_curves_that_are_not_srgb_are_converted(gamma: float | None) -> None:
    """A curve of one number, or of none (linear), in place of each of the profile's own."""
    profile = bytearray(pictures.srgb_profile())
    for entry in range(132, 132 + 12 * int.from_bytes(profile[128:132]), 12):
        if bytes(profile[entry : entry + 4]) in {b"rTRC", b"gTRC", b"bTRC"}:
            at = int.from_bytes(profile[entry + 4 : entry + 8])
            curve = b"\0\0\0\0" if gamma is None else b"\0\0\0\1" + int(gamma * 256).to_bytes(2)
            profile[at : at + 8 + len(curve)] = b"curv\0\0\0\0" + curve
    assert not colour.is_srgb(bytes(profile))


@given(st.binary(max_size=200), st.integers(0, 3000))
def test_no_profile_breaks_the_reader(junk: bytes, at: int) -> None:
    profile = pictures.srgb_profile()
    assert colour.is_srgb(profile[:at] + junk + profile[at + len(junk) :]) in (True, False)


def test_a_broken_profile_does_not_cost_the_picture(tmp_path: Path) -> None:
    pixels = pictures.gradient()
    path = pictures.save(tmp_path / "a.jpg", pixels, quality=95, icc_profile=b"not a profile" * 40)
    assert pictures.psnr(shown(path), pixels) > 38


def test_cmyk_becomes_srgb_with_and_without_a_profile(tmp_path: Path) -> None:
    pixels = pictures.gradient() // 2 + 60  # inside what ink can show
    pictures.vips(pixels).icc_export(output_profile="cmyk").jpegsave(str(tmp_path / "icc.jpg"), Q=95)
    assert pictures.psnr(shown(tmp_path / "icc.jpg"), pixels) > 27
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "plain.jpg", quality=95)
    plain = shown(tmp_path / "plain.jpg")
    assert plain.shape == pixels.shape
    # Pillow's naive inks have no exact answer: darker stays darker, red stays red.
    assert np.corrcoef(plain[:, :, 0].ravel(), pixels[:, :, 0].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_become_8(tmp_path: Path, name: str) -> None:
    pixels = pictures.gradient()
    deep = (pictures.vips(pixels).cast("ushort") * 257).cast("ushort")
    deep.copy(interpretation="rgb16").write_to_file(str(tmp_path / name))
    assert pictures.psnr(shown(tmp_path / name), pixels) > 38


def test_grey_stays_grey(tmp_path: Path) -> None:
    grey = pictures.gradient()[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    (pyvips.Image.new_from_array(grey).cast("ushort") * 257).cast("ushort").copy(interpretation="grey16").pngsave(
        str(tmp_path / "deep.png")
    )
    Image.fromarray(grey).save(tmp_path / "a.jpg", quality=95)
    for path in sorted(tmp_path.iterdir()):
        assert pictures.psnr(shown(path), np.stack([grey] * 3, axis=2)) > 38


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.avif"])
def test_alpha_is_kept(tmp_path: Path, name: str) -> None:
    pixels = np.dstack([pictures.gradient(2000, 1000), np.zeros((1000, 2000), np.uint8)])
    pixels[:, 1000:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / name, quality=95)
    for variant in publish(tmp_path / name):
        alpha = pictures.decode(variant.data)[:, :, 3]
        half = variant.width // 2
        assert alpha[:, : half - 8].max() < 8
        assert alpha[:, half + 8 :].min() > 247


def test_colours_do_not_bleed_out_of_transparent_pixels(tmp_path: Path) -> None:
    """Premultiplied in the resize: hidden white beside red gives no pink edge."""
    pixels = np.zeros((2000, 2000, 4), np.uint8)
    pixels[:, :, :3] = 255
    pixels[500:1500, 500:1500] = (200, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for variant in publish(tmp_path / "a.png"):
        rgba = pictures.decode(variant.data).astype(int)
        visible = rgba[rgba[:, :, 3] > 200]
        assert np.percentile(visible[:, 1], 99) < 40


def test_palette_alpha_is_kept(tmp_path: Path) -> None:
    image = Image.fromarray(pictures.gradient()).quantize(32)
    image.save(tmp_path / "a.png", transparency=0)
    assert shown(tmp_path / "a.png").shape[2] == 4


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_an_animation_shows_its_first_frame(tmp_path: Path, name: str) -> None:
    first, later = Image.new("RGB", (200, 100), (200, 40, 40)), Image.new("RGB", (200, 100), (40, 40, 200))
    first.save(tmp_path / name, save_all=True, append_images=[later, later], duration=100)
    thumb, display = publish(tmp_path / name)
    assert (display.width, display.height) == (200, 100)
    for variant in (thumb, display):
        assert np.abs(pictures.decode(variant.data)[:, :, :3].mean(axis=(0, 1)) - (200, 40, 40)).max() < 6


@pytest.mark.parametrize("size", [(2, 3000), (1, 3000), (3, 3000), (3000, 2), (2, 1601)])
@pytest.mark.parametrize("options", [{"quality": 95}, {"lossless": True}])
def test_a_narrow_webp_keeps_its_colours(tmp_path: Path, size: tuple[int, int], options: dict[str, Any]) -> None:
    Image.new("RGB", size, (200, 60, 30)).save(tmp_path / "a.webp", **options)
    for variant in publish(tmp_path / "a.webp"):
        assert np.abs(pictures.decode(variant.data).astype(int) - (200, 60, 30)).max() <= 6


def test_of_a_jpeg_with_several_pictures_the_first_is_shown(tmp_path: Path) -> None:
    """MPO (stereo and gain maps): whole pictures, one behind the other."""
    first, later = Image.new("RGB", (200, 100), (200, 60, 30)), Image.new("RGB", (90, 90), (40, 40, 200))
    first.save(tmp_path / "a", "MPO", save_all=True, append_images=[later], quality=95)
    assert b"MPF" in (tmp_path / "a").read_bytes()
    pictures.assert_colour(shown(tmp_path / "a"), (200, 60, 30))
    assert shown(tmp_path / "a").shape == (100, 200, 3)


def test_only_the_first_page_of_a_tiff_is_shown(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (50, 40), shade) for shade in ("red", "blue")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    display = publish(tmp_path / "a.tif")[1]
    assert (display.width, display.height) == (50, 40)
    assert pictures.decode(display.data)[20, 25, 0] > 200


def test_no_metadata_of_any_kind_is_left(tmp_path: Path) -> None:
    profile = bytes(pictures.vips(pictures.gradient(8, 8)).icc_transform("p3").get("icc-profile-data"))
    options = {"exif": pictures.exif(1, gps=True), "icc_profile": profile, "xmp": b"<x:xmpmeta>SecretPlace</x:xmpmeta>"}
    for name in ("a.jpg", "a.webp", "a.png"):
        path = pictures.save(tmp_path / name, pictures.gradient(900, 600), **options)
        assert b"SecretCamera" in path.read_bytes()
        for variant in publish(path):
            for trace in (b"EXIF", b"Exif", b"ICCP", b"XMP ", b"GPS", b"Secret"):
                assert trace not in variant.data
            with Image.open(io.BytesIO(variant.data)) as image:
                assert not image.getexif()


def test_extreme_shapes_keep_at_least_a_pixel(tmp_path: Path) -> None:
    for width, height in ((20_000, 10), (10, 20_000), (20_000, 1), (1, 20_000), (1, 1)):
        for name in ("a.jpg", "a.png"):
            path = pictures.save(tmp_path / name, np.full((height, width, 3), 90, np.uint8))
            for variant, box in zip(publish(path), (400, 1600), strict=True):
                assert max(variant.width, variant.height) == min(box, max(width, height))
                assert min(variant.width, variant.height) >= 1
                assert pictures.decode(variant.data).shape == (variant.height, variant.width, 3)


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 5000), height=st.integers(1, 5000), format_=st.sampled_from(["jpg", "png", "webp", "tif"]))
def test_never_enlarged_within_the_box_and_of_the_same_shape(width: int, height: int, format_: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{format_}"
        options = {"effort": 0} if format_ == "webp" else {}
        pyvips.Image.black(width, height, bands=3).copy(interpretation="srgb").write_to_file(str(path), **options)
        for variant, box in zip(publish(path), (400, 1600), strict=True):
            scale = min(1.0, box / max(width, height))
            assert variant.width <= min(box, width)
            assert variant.height <= min(box, height)
            assert abs(variant.width - max(1, width * scale)) <= 1
            assert abs(variant.height - max(1, height * scale)) <= 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("progressive.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.gif", {}),
        ("a.webp", {}),
        ("lossless.webp", {"lossless": True}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.avif", {}),
    ],
)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, name: str, options: dict[str, Any], part: float) -> None:
    path = pictures.save(tmp_path / name, pictures.noise(320, 240), **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(Permanent) as refused:
        publish(path)
    assert str(tmp_path) not in str(refused.value)
    assert str(refused.value).endswith(".")


def test_what_every_browser_shows_is_accepted(tmp_path: Path) -> None:
    """Stray bytes before a marker, rubbish after the end, a PNG without its empty last chunk."""
    pixels = pictures.gradient()
    jpeg = pictures.save(tmp_path / "a.jpg", pixels, quality=95).read_bytes()
    table = jpeg.index(b"\xff\xdb")
    png = pictures.save(tmp_path / "a.png", pixels).read_bytes()
    for name, content in {
        "stray.jpg": jpeg[:table] + b"\0" * 16 + jpeg[table:],
        "after.jpg": jpeg + b"\0\1\2rubbish" * 50,
        "after.png": png + b"rubbish" * 50,
        "noend.png": png[:-12],
    }.items():
        (tmp_path / name).write_bytes(content)
        assert pictures.psnr(shown(tmp_path / name), pixels) > 38


def test_a_damaged_png_chunk_is_refused(tmp_path: Path) -> None:
    content = bytearray(pictures.save(tmp_path / "a.png", pictures.noise(320, 240)).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(Permanent, match="PNG"):
        publish(tmp_path / "a.png")


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(["a.jpg", "a.png", "a.gif", "a.webp", "a.tif", "a.avif"]))
def test_no_damage_ends_in_anything_but_variants_or_a_reason(data: st.DataObject, name: str) -> None:
    with TemporaryDirectory() as folder:
        path = pictures.save(Path(folder) / name, pictures.noise(48, 40))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        reason = ""
        try:
            render(path, probe(path, sniff(path), max_pixels=1_000_000))
        except JobError as error:
            reason = str(error)
        assert folder not in reason


def test_a_compressed_tiff_of_one_huge_strip_is_decoded(tmp_path: Path) -> None:
    """libtiff by itself refuses to hold more than 50 MB."""
    path = pictures.save(tmp_path / "a.tif", pictures.noise(16_800, 1100), compression="packbits", strip_size=10**9)
    assert publish(path)[1].width == 1600


def test_the_stages_are_named_in_order(tmp_path: Path) -> None:
    entered: list[str] = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        entered.append(name)
        yield
        entered.append(f"/{name}")

    publish(pictures.save(tmp_path / "a.jpg", pictures.gradient()), stage=stage)
    assert entered == ["decode", "/decode", "encode", "/encode"]


class Stop(Exception):
    """What a checkpoint raises."""


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_checkpoint_ends_the_work_between_steps(tmp_path: Path, after: int) -> None:
    calls = 0

    def checkpoint() -> None:
        nonlocal calls
        if calls == after:
            raise Stop
        calls += 1

    path = pictures.save(tmp_path / "a.jpg", pictures.gradient())
    with pytest.raises(Stop):
        publish(path, checkpoint=checkpoint)


def test_a_checkpoint_ends_a_decode_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "_CHECK_EVERY", 0.0)
    stages: list[str] = []
    during: list[str] = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        stages.append(name)
        yield

    def checkpoint() -> None:
        during.append(stages[-1])
        if len(during) == 3:  # the first is at the door, the second and later while rows are decoded
            raise Stop

    path = pictures.save(tmp_path / "a.png", pictures.gradient(3000, 2000), compress_level=1)
    with pytest.raises(Stop):
        publish(path, stage=stage, checkpoint=checkpoint)
    assert during == ["decode"] * 3


def test_pictures_in_many_threads_are_the_same_as_alone(tmp_path: Path) -> None:
    paths = [pictures.save(tmp_path / f"{index}.jpg", pictures.noise(300 + index, 200)) for index in range(4)]
    alone = [publish(path) for path in paths]
    together: dict[int, tuple[Variant, Variant]] = {}
    threads = [threading.Thread(target=lambda i=i: together.update({i: publish(paths[i % 4])})) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[index] for index in range(12)] == alone * 3


def test_rendering_again_gives_the_same_bytes_and_the_recipe_fits_a_key(tmp_path: Path) -> None:
    path = pictures.save(tmp_path / "a.jpg", pictures.noise(500, 400))
    assert publish(path) == publish(path)
    assert set(RECIPE) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


def test_no_file_stays_open(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("/proc/self/fd is not here")
    path = pictures.save(tmp_path / "a.jpg", pictures.gradient())
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(path.read_bytes()[:-300])
    for _ in range(3):
        publish(path)
        with pytest.raises(Permanent):
            publish(broken)
    assert not [link for link in descriptors.iterdir() if str(tmp_path) in _target(link)]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def test_the_format_of_the_probe_decides_the_loader(tmp_path: Path) -> None:
    """A picture cannot be opened as what it is not."""
    path = pictures.save(tmp_path / "a.png", pictures.gradient())
    with pytest.raises(Permanent, match="JPEG"):
        probe(path, Format.JPEG, max_pixels=1_000_000)
