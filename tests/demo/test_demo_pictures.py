from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pyvips
from PIL import ExifTags, Image

from jobqueue.demo.demo_pictures import PICTURES, Picture, make_pictures

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder)
    return folder


def named(about: str) -> Picture:
    (picture,) = [picture for picture in PICTURES if about in picture.about]
    return picture


def opened(folder: Path, about: str, **options: Any) -> pyvips.Image:
    return pyvips.Image.new_from_file(str(folder / named(about).name), **options)


def fields(image: pyvips.Image) -> list[str]:
    return list(image.get_fields())


@pytest.mark.parametrize("picture", [p for p in PICTURES if not p.must_fail], ids=lambda p: p.about)
def test_a_good_picture_has_something_on_it(folder: Path, picture: Picture) -> None:
    image = pyvips.Image.new_from_file(str(folder / picture.name), fail_on="warning")
    spread = image.colourspace("srgb").extract_band(0, n=3).deviate()
    assert 5 < spread < 110


@pytest.mark.parametrize(
    ("about", "loader", "low", "high"),
    [
        ("baseline", "jpegload", 12, 12),
        ("progressive", "jpegload", 7, 8),
        ("transparency", "pngload", 2, 3),
        ("16 bits", "pngload", 2, 3),
        ("TIFF", "tiffload", 3, 4),
        ("AVIF", "heifload", 2, 3),
        ("CMYK", "jpegload", 2, 3),
        ("Display P3", "jpegload", 3, 4),
    ],
)
def test_formats_and_megapixels(folder: Path, about: str, loader: str, low: int, high: int) -> None:
    image = opened(folder, about)
    assert image.get("vips-loader") == loader
    assert low <= image.width * image.height / 1e6 <= high


def test_progressive_and_baseline(folder: Path) -> None:
    assert "interlaced" in fields(opened(folder, "progressive"))
    assert "interlaced" not in fields(opened(folder, "baseline"))


def test_the_lying_picture_knows_where_it_was_taken(folder: Path) -> None:
    with Image.open(folder / named("GPS").name) as image:
        exif = image.getexif()
        assert image.width > image.height
        assert exif[ExifTags.Base.Orientation] == 6
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == pytest.approx((47, 33, 25.17))
    upright = opened(folder, "GPS").autorot()
    assert upright.height > upright.width
    # The sky is brighter than nothing else is above: the top of the upright picture is plain, the middle is not.
    strip = upright.height // 10
    assert upright.crop(0, 0, upright.width, strip).deviate() < upright.deviate()


def test_transparency_depth_palette_and_frames(folder: Path) -> None:
    badge = opened(folder, "transparency")
    assert badge.hasalpha()
    assert (badge[3].min(), badge[3].max()) == (0, 255)
    assert opened(folder, "16 bits").format == "ushort"
    assert opened(folder, "palette").get("palette") == 1
    for about in ("animated GIF", "animated WebP"):
        assert opened(folder, about, n=-1).get("n-pages") == 10


def test_colour_spaces(folder: Path) -> None:
    assert opened(folder, "CMYK").interpretation == "cmyk"
    vivid = opened(folder, "Display P3")
    assert b"P3" in vivid.get("icc-profile-data").replace(b"\0", b"") or len(vivid.get("icc-profile-data")) > 300
    exact = vivid.icc_import(embedded=True).colourspace("scrgb")
    assert exact.min() < -0.01 or exact.max() > 1.01, "nothing lies outside sRGB"


def test_the_bad_ones_are_bad(folder: Path) -> None:
    cut = opened(folder, "truncated", fail_on="truncated")
    with pytest.raises(pyvips.Error):
        cut.avg()
    poster = opened(folder, "pixel limit")
    assert poster.width * poster.height == 400_000_000
    assert (folder / named("pixel limit").name).stat().st_size < 1_000_000
    assert poster.shrink(100, 100).avg() > 0
