"""What the bytes are, by content alone, and what the header says before any pixel is decoded."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pytest
import pyvips
from PIL import Image
from tests.media import pictures

from jobqueue.errors import Permanent
from jobqueue.media.formats import Format, probe, sniff
from jobqueue.media.picture_headers import jpeg_sampling

if TYPE_CHECKING:
    from pathlib import Path

SAVED_BY_PILLOW = {
    Format.JPEG: "JPEG",
    Format.PNG: "PNG",
    Format.GIF: "GIF",
    Format.WEBP: "WEBP",
    Format.TIFF: "TIFF",
    Format.AVIF: "AVIF",
}


@pytest.mark.parametrize("format_", SAVED_BY_PILLOW)
def test_the_content_decides_and_never_the_name(tmp_path: Path, format_: Format) -> None:
    path = tmp_path / "misleading.svg"
    Image.fromarray(pictures.gradient(64, 48)).save(path, format=SAVED_BY_PILLOW[format_])
    assert sniff(path) is format_
    found = probe(path, format_, max_pixels=64 * 48)
    assert (found.format, found.width, found.height, found.pages) == (format_, 64, 48, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty (0 bytes)"),
        (b"\xff", "of an unknown format"),
        (b"\r\n<!DOCTYPE html><title>Sign in</title>", "an HTML page"),
        (b"\xef\xbb\xbf<html lang=en>", "an HTML page"),
        (b'<?xml version="1.0"?><!-- x --><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"<svg onload='x()'/>", "an SVG drawing"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (b'{"error": "not found"}', "JSON text"),
        (b"not found\n", "text"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"BM\x36\0\0\0", "a BMP picture"),
        (b"\0\0\1\0\1\0", "an icon (ICO)"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"PK\x03\x04\x14", "a ZIP archive"),
        (b"\x1f\x8b\x08\0", "gzip data"),
        (b"\xff\x0a\xfa", "a JPEG XL picture"),
        (b"\x1aE\xdf\xa3\x01", "a Matroska or WebM video"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "of an unknown format"),
        (b"\r\n\xff\xd8\xff\xe0", "of an unknown format"),
        (pictures.iso_media(b"isom", b"mp41"), "a video or audio file"),
        (pictures.iso_media(b"qt  "), "a video or audio file"),
        (pictures.iso_media(b"crx ", b"isom"), "a camera raw file"),
        (pictures.iso_media(b"mif1", b"miaf"), "an unknown codec"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(Permanent) as refused:
        sniff(path)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("brands", "format_"),
    [
        ((b"heic", b"mif1", b"heic"), Format.HEIC),
        ((b"mif1", b"heic"), Format.HEIC),
        ((b"msf1", b"hevc"), Format.HEIC),
        ((b"avif", b"mif1", b"miaf"), Format.AVIF),
        ((b"mif1", b"miaf", b"avif"), Format.AVIF),
        ((b"avis", b"msf1"), Format.AVIF),
    ],
)
def test_heif_is_told_apart_by_its_brands(tmp_path: Path, brands: tuple[bytes, ...], format_: Format) -> None:
    path = tmp_path / "source"
    path.write_bytes(pictures.iso_media(*brands))
    assert sniff(path) is format_


@pytest.mark.parametrize("orientation", range(1, 9))
def test_width_and_height_are_those_displayed(tmp_path: Path, orientation: int) -> None:
    path = pictures.save(tmp_path / "a.jpg", pictures.gradient(64, 48), exif=pictures.exif(orientation))
    found = probe(path, Format.JPEG, max_pixels=10_000)
    assert (found.width, found.height) == ((64, 48) if orientation < 5 else (48, 64))


@pytest.mark.parametrize("content", [pictures.png_header(100_000, 100_000), pictures.png_header(65_536, 65_536)])
def test_a_bomb_is_refused_on_its_header_and_both_numbers_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(content)
    began = time.process_time()
    with pytest.raises(Permanent, match=r"pixels; at most 120,000,000 are allowed") as refused:
        probe(path, sniff(path), max_pixels=120_000_000)
    assert time.process_time() - began < 0.5  # decoding it takes seconds
    assert "10,000,000,000" in str(refused.value) or "4,294,967,296" in str(refused.value)


def test_exactly_the_limit_is_allowed(tmp_path: Path) -> None:
    path = pictures.save(tmp_path / "a.png", pictures.gradient(100, 100))
    assert probe(path, Format.PNG, max_pixels=10_000).width == 100
    with pytest.raises(Permanent, match=r"100 x 100 = 10,000 pixels; at most 9,999"):
        probe(path, Format.PNG, max_pixels=9_999)


def test_an_animation_tells_its_frames_and_the_size_of_one(tmp_path: Path) -> None:
    frames = [Image.fromarray(pictures.gradient(80, 60)), Image.fromarray(255 - pictures.gradient(80, 60))]
    for name in ("a.gif", "a.webp"):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        found = probe(path, sniff(path), max_pixels=10_000)
        assert (found.width, found.height, found.pages) == (80, 60, 2)


def test_depth_alpha_and_interlacing_are_told(tmp_path: Path) -> None:
    image = pictures.vips(pictures.gradient(64, 48))
    image.bandjoin(128).pngsave(str(tmp_path / "alpha.png"), interlace=True)
    (image.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16").pngsave(str(tmp_path / "deep.png"))
    alpha = probe(tmp_path / "alpha.png", Format.PNG, max_pixels=10_000)
    deep = probe(tmp_path / "deep.png", Format.PNG, max_pixels=10_000)
    assert (alpha.bands, alpha.bits, alpha.has_alpha, alpha.interlaced) == (4, 8, True, True)
    assert (deep.bands, deep.bits, deep.has_alpha, deep.interlaced) == (3, 16, False, False)


def test_a_damaged_header_is_refused_without_telling_where_the_file_lies(tmp_path: Path) -> None:
    for name, content in {
        "a.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF",
        "a.png": pictures.png_header(10, 10)[:20],
        "a.gif": b"GIF89a\x01",
        "a.tif": b"II*\0\xff\xff\xff\x7f",
        "a.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
        "a.avif": pictures.iso_media(b"avif", b"mif1"),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(Permanent) as refused:
            probe(path, sniff(path), max_pixels=10_000)
        assert str(tmp_path) not in str(refused.value)
        assert name not in str(refused.value)


def test_only_the_allowed_loaders_open_anything() -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>'
    with pytest.raises(pyvips.Error):
        pyvips.Image.new_from_buffer(svg, "")
    with pytest.raises(pyvips.Error):
        pyvips.Image.svgload_buffer(svg)
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    assert pyvips.Image.new_from_buffer(png.getvalue(), "").width == 4


def _estimate(path: Path) -> int:
    return probe(path, sniff(path), max_pixels=20_000_000).memory_bytes


@pytest.mark.slow
def test_what_is_held_whole_is_estimated_by_its_pixels_and_what_streams_is_not(tmp_path: Path) -> None:
    image = pictures.vips(pictures.gradient(2400, 1600))
    pixels = 2400 * 1600
    image.jpegsave(str(tmp_path / "a.jpg"))
    image.jpegsave(str(tmp_path / "p420.jpg"), interlace=True, subsample_mode="on")
    image.jpegsave(str(tmp_path / "p444.jpg"), interlace=True, subsample_mode="off")
    image.pngsave(str(tmp_path / "a.png"), compression=1)
    image.pngsave(str(tmp_path / "i.png"), compression=1, interlace=True)
    image.webpsave(str(tmp_path / "a.webp"), effort=0)
    image.webpsave(str(tmp_path / "l.webp"), effort=0, lossless=True)
    image.tiffsave(str(tmp_path / "a.tif"), compression="lzw")
    pictures.save(tmp_path / "onestrip.tif", pictures.gradient(2400, 1600), compression="tiff_lzw", strip_size=10**8)
    image.tiffsave(str(tmp_path / "tiles.tif"), tile=True, tile_width=2048, tile_height=2048, compression="lzw")
    image.heifsave(str(tmp_path / "a.avif"), compression="av1", effort=0)
    estimate = {path.name: _estimate(path) for path in tmp_path.iterdir()}
    # Whole-frame coefficients are two bytes a sample: 3 bytes a pixel when chroma is halved both ways, else 6.
    assert estimate["p420.jpg"] - estimate["a.jpg"] == pytest.approx(3 * pixels, rel=0.2)
    assert estimate["p444.jpg"] - estimate["a.jpg"] == pytest.approx(6 * pixels, rel=0.2)
    assert estimate["i.png"] > 3 * pixels
    assert estimate["l.webp"] - estimate["a.webp"] > 4 * pixels
    assert estimate["a.avif"] > 16 * pixels
    assert estimate["onestrip.tif"] - estimate["a.tif"] > 2.9 * pixels
    assert estimate["tiles.tif"] > 3 * 3 * 2048**2
    for streaming in ("a.jpg", "a.png", "a.tif", "a.webp"):
        assert estimate[streaming] < 56_000_000


def test_sampling_is_read_past_other_segments_and_never_from_broken_ones(tmp_path: Path) -> None:
    path = pictures.save(
        tmp_path / "a.jpg",
        pictures.gradient(64, 48),
        subsampling="4:2:2",
        exif=pictures.exif(gps=True),
        comment=b"x" * 900,
    )
    assert jpeg_sampling(path) == [(2, 1), (1, 1), (1, 1)]
    content = path.read_bytes()
    for cut in range(0, len(content), 37):
        path.write_bytes(content[:cut])
        assert jpeg_sampling(path) in ([], [(2, 1), (1, 1), (1, 1)])
