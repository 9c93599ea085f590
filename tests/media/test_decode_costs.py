"""What metadata takes is counted before it is read: by its sizes in the file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from tests.media import pictures
from tests.media.tiff_files import Page, flat, tiff

from jobqueue.errors import Permanent
from jobqueue.media.decode_costs import header_bytes
from jobqueue.media.formats import probe, sniff

if TYPE_CHECKING:
    from pathlib import Path

HUGE = b"MM\0*".ljust(16_000_000, b"a")


def jpeg(path: Path, marker: int, head: bytes) -> None:
    """A JPEG with 250 segments of `marker`."""
    pictures.save(path, pictures.gradient(64, 48), format="JPEG")
    body = head.ljust(64_000, b"a")
    segment = b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body
    content = path.read_bytes()
    path.write_bytes(content[:2] + segment * 250 + content[2:])


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jpeg exif", "jpeg xmp", "jpeg app13", "webp exif", "webp icc", "tiff icc"])
def test_huge_metadata_is_counted_before_it_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "source"
    format_, what = kind.split()
    if format_ == "jpeg":
        head = {"exif": b"Exif\0\0MM\0*", "xmp": b"http://ns.adobe.com/xap/1.0/\0", "app13": b"Photoshop 3.0\0"}[what]
        jpeg(path, 0xED if what == "app13" else 0xE1, head)
    elif format_ == "tiff":
        path.write_bytes(tiff(Page(flat(200, 60, 30), tags={34675: HUGE})))
    else:
        option = {"exif": {"exif": HUGE}, "icc": {"icc_profile": HUGE}}[what]
        Image.new("RGB", (64, 48), (200, 60, 30)).save(path, format_, **option)
    before = header_bytes(path, sniff(path))
    looked, published = pictures.growth(path)
    assert looked <= before + 4_000_000
    assert looked + published <= probe(path, sniff(path), max_pixels=10_000).memory_bytes + 4_000_000
    if format_ != "jpeg":
        pictures.assert_colour(pictures.shown(path), (200, 60, 30))


def test_the_headers_of_ordinary_pictures_wait_for_nothing(tmp_path: Path) -> None:
    profile = pictures.srgb_profile()
    for name in ("a.jpg", "a.png", "a.webp", "a.tif", "a.avif", "a.gif"):
        options = {} if name == "a.gif" else {"icc_profile": profile, "exif": pictures.exif(6, gps=True)}
        path = pictures.save(tmp_path / name, pictures.gradient(640, 480), **options)
        assert header_bytes(path, sniff(path)) == 0


def test_an_avif_with_a_profile_of_megabytes_is_refused_unread(tmp_path: Path) -> None:
    """libvips would take a minute over it."""
    path = pictures.save(tmp_path / "a.avif", pictures.gradient(64, 48), icc_profile=HUGE)
    with pytest.raises(Permanent, match="is too large for its decoder: its description has more than 4 MB"):
        probe(path, sniff(path), max_pixels=10_000)
