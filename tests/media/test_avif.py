"""AVIF by every brand, in the colours that its numbers say, and by its first picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from tests.media import pictures
from tests.media.pictures import assert_colour, shown

from jobqueue.errors import Permanent
from jobqueue.media.formats import Format, probe, sniff

if TYPE_CHECKING:
    from pathlib import Path


def avif(shade: tuple[int, ...], **options: Any) -> bytes:
    """A picture of one colour, 128 x 96."""
    out = io.BytesIO()
    options = {"quality": 95, "subsampling": "4:4:4", "icc_profile": b""} | options
    Image.new("RGB" if len(shade) == 3 else "RGBA", (128, 96), shade).save(out, "AVIF", **options)
    return out.getvalue()


def numbered(content: bytes, primaries: int, transfer: int) -> bytes:
    """`content` with other numbers in its nclx box; its matrix stays."""
    at = content.index(b"nclx") + 4
    return content[:at] + primaries.to_bytes(2) + transfer.to_bytes(2) + content[at + 4 :]


@pytest.mark.parametrize(
    ("shade", "numbers", "expected"),
    [
        ((200, 60, 60), (1, 13), (200, 60, 60)),
        ((200, 60, 60), (2, 2), (200, 60, 60)),
        ((200, 60, 60), (12, 13), (217, 42, 52)),
        ((148, 148, 148), (9, 16), (229, 229, 229)),
        ((130, 130, 130), (9, 16), (186, 186, 186)),
        ((191, 191, 191), (9, 18), (229, 229, 229)),
        ((200, 60, 60, 255), (12, 13), (217, 42, 52)),
        ((148, 148, 148, 128), (9, 16), (229, 229, 229, 128)),
    ],
)
def test_colours_are_those_of_the_numbers(
    tmp_path: Path, shade: tuple[int, ...], numbers: tuple[int, int], expected: tuple[int, ...]
) -> None:
    (tmp_path / "a").write_bytes(numbered(avif(shade), *numbers))
    assert_colour(shown(tmp_path / "a")[:, :, : len(expected)], expected)


def test_a_profile_decides_before_the_numbers(tmp_path: Path) -> None:
    display_p3 = bytes(pictures.vips(pictures.gradient(8, 8)).icc_transform("p3").get("icc-profile-data"))
    content = avif((200, 60, 60), icc_profile=display_p3)
    (tmp_path / "a").write_bytes(content)
    assert_colour(shown(tmp_path / "a"), (217, 42, 52))


def test_an_animation_shows_its_first_picture(tmp_path: Path) -> None:
    later = Image.new("RGB", (128, 96), (0, 0, 255))
    content = avif((200, 60, 30), save_all=True, append_images=[later], duration=200)
    assert content[8:12] == b"avis"
    (tmp_path / "a").write_bytes(content)
    assert_colour(shown(tmp_path / "a"), (200, 60, 30))


@pytest.mark.parametrize(
    "brand", [b"avif", b"avis", b"avio", b"MA1A", b"MA1B", b"mif1", b"mif2", b"msf1", b"miaf", b"1pic"]
)
def test_every_brand_of_the_family_is_known(tmp_path: Path, brand: bytes) -> None:
    content = avif((200, 60, 30))
    (tmp_path / "a").write_bytes(content[:8] + brand + content[12:])
    assert sniff(tmp_path / "a") is Format.AVIF
    assert_colour(shown(tmp_path / "a"), (200, 60, 30))


@pytest.mark.parametrize("brand", [b"mif1", b"1pic"])
def test_where_no_brand_tells_the_codec_its_configuration_does(tmp_path: Path, brand: bytes) -> None:
    content = avif((200, 60, 30))
    size = int.from_bytes(content[:4])
    (tmp_path / "a").write_bytes(content[:8] + brand + content[12:16] + brand * ((size - 16) // 4) + content[size:])
    assert sniff(tmp_path / "a") is Format.AVIF
    assert_colour(shown(tmp_path / "a"), (200, 60, 30))


def test_exif_turns_nothing(tmp_path: Path) -> None:
    """As in HEIC: the container has its own boxes for turning, which its writer sets."""
    upright = pictures.gradient()
    path = tmp_path / "a.avif"
    pictures.save(path, pictures.unturned(upright, 6), quality=95, exif=pictures.exif(6))
    assert pictures.psnr(shown(path), upright) > 38


def test_one_that_was_cut_short_is_refused_on_its_header(tmp_path: Path) -> None:
    path = pictures.save(tmp_path / "a.avif", pictures.noise(320, 240))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Permanent, match=r"The AVIF picture is cut short or damaged: it ends at [\d,]+ bytes"):
        probe(path, Format.AVIF, max_pixels=1_000_000)
