"""The demo's own pictures: photograph-like, one of every format that the worker publishes, and two that it must refuse."""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyvips

from jobqueue.demo import landscape as mood
from jobqueue.demo.landscape import Scene, landscape

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FRAMES = 10


@dataclass(frozen=True)
class Picture:
    """One made picture: `name` is its path in the folder, `about` says what is special; `must_fail` when it must be refused."""

    name: str
    about: str
    write: Callable[[Path], None]
    must_fail: bool = False


def make_pictures(folder: Path) -> tuple[Picture, ...]:
    """Write all pictures into `folder` (made when missing), one a processor at a time, and return them.

    About 80 million pixels and 25 MB; a few seconds on two cores. The same pictures every time.
    """
    for picture in PICTURES:
        (folder / picture.name).parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done in [pool.submit(picture.write, folder / picture.name) for picture in PICTURES]:
            done.result()
    return PICTURES


def _baseline_jpeg(path: Path) -> None:
    landscape(4000, 3000, Scene(mood.NOON, 12, snow=True, trees=True)).jpegsave(str(path), Q=90)


def _progressive_jpeg(path: Path) -> None:
    landscape(3300, 2200, Scene(mood.DUSK, 13, water=True)).jpegsave(
        str(path), Q=90, interlace=True, optimize_coding=True
    )


def _rotated_jpeg(path: Path) -> None:
    """Write it as a phone held upright does: pixels on their side, orientation 6 (turn right to see), and a position."""
    lying = landscape(2250, 3000, Scene(mood.DAWN, 11, water=True)).rot270()
    fields = {
        "exif-ifd0-Make": "Demo",
        "exif-ifd0-Model": "Pocket camera",
        "exif-ifd0-Orientation": "6",
        "exif-ifd2-DateTimeOriginal": "2024:06:21 05:12:33",
        "exif-ifd3-GPSLatitudeRef": "N",
        "exif-ifd3-GPSLatitude": "47/1 33/1 2517/100",
        "exif-ifd3-GPSLongitudeRef": "E",
        "exif-ifd3-GPSLongitude": "13/1 38/1 5731/100",
    }
    tagged = lying.copy()
    for name, value in fields.items():
        tagged.set_type(pyvips.GValue.gstr_type, name, value)
    tagged.set_type(pyvips.GValue.gint_type, "orientation", 6)
    tagged.jpegsave(str(path), Q=90)


def _alpha_png(path: Path) -> None:
    """Write a round picture: opaque inside, with a soft edge, transparent outside."""
    picture = landscape(1500, 1500, Scene(mood.DESERT, 16))
    place = pyvips.Image.xyz(1500, 1500) - [750, 750]
    distance = (place[0] ** 2 + place[1] ** 2) ** 0.5
    alpha = ((730 - distance) * 6).clamp(min=0, max=255).cast("uchar")
    picture.bandjoin(alpha).copy(interpretation="srgb").pngsave(str(path), compression=2)


def _deep_png(path: Path) -> None:
    picture = landscape(1800, 1200, Scene(mood.MIST, 14))
    (picture.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16").pngsave(
        str(path), bitdepth=16, compression=1, filter="sub"
    )


def _palette_png(path: Path) -> None:
    picture = landscape(1500, 1000, Scene(mood.NIGHT, 15, water=True, trees=True))
    picture.pngsave(str(path), palette=True, dither=0.6, effort=1)


def _time_lapse(width: int, height: int, scene: Scene, evening: mood.Palette) -> pyvips.Image:
    """Make one place from day to evening and back: the frames below each other, as libvips holds animations."""
    day = landscape(width, height, scene)
    night = landscape(width, height, replace(scene, palette=evening))
    shares = [1 - abs(2 * frame / _FRAMES - 1) for frame in range(_FRAMES)]
    frames = [(day * (1 - share) + night * share).cast("uchar") for share in shares]
    film = pyvips.Image.arrayjoin(frames, across=1).copy(interpretation="srgb")
    film.set_type(pyvips.GValue.gint_type, "page-height", height)
    film.set_type(pyvips.GValue.array_int_type, "delay", [120] * _FRAMES)
    film.set_type(pyvips.GValue.gint_type, "loop", 0)
    return film


def _animated_gif(path: Path) -> None:
    _time_lapse(480, 320, Scene(mood.NOON, 27, trees=True), mood.DUSK).gifsave(str(path), effort=1, dither=0.5)


def _animated_webp(path: Path) -> None:
    _time_lapse(640, 400, Scene(mood.MIST, 31, water=True), mood.DAWN).webpsave(str(path), Q=75, effort=0)


def _tiff(path: Path) -> None:
    landscape(2400, 1600, Scene(mood.DESERT, 18, snow=True)).tiffsave(
        str(path), compression="deflate", predictor="horizontal", level=1
    )


def _avif(path: Path) -> None:
    landscape(1800, 1200, Scene(mood.POLAR, 17, water=True, snow=True)).heifsave(
        str(path), compression="av1", Q=80, effort=0
    )


def _cmyk_jpeg(path: Path) -> None:
    picture = landscape(2100, 1400, Scene(mood.DAWN, 21, trees=True))
    picture.icc_transform("cmyk", input_profile="srgb").jpegsave(str(path), Q=90, keep="icc")


def _wide_gamut_jpeg(path: Path) -> None:
    """Declare the values to be Display P3, so that the saturated colours lie outside sRGB."""
    picture = landscape(2400, 1600, Scene(mood.DUSK, 24, water=True, trees=True)).copy()
    picture.set_type(pyvips.GValue.blob_type, "icc-profile-data", pyvips.Image.profile_load("p3"))
    picture.jpegsave(str(path), Q=92, keep="icc")


def _truncated_jpeg(path: Path) -> None:
    whole = landscape(2400, 1600, Scene(mood.NOON, 33, water=True)).jpegsave_buffer(Q=85)
    path.write_bytes(whole[: len(whole) * 2 // 5])


def _huge_png(path: Path) -> None:
    """Write a valid PNG of 400 million pixels in a few kilobytes: one bit a pixel, every line alike."""
    side = 20_000

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    line = b"\0" + b"\xf0" * (side // 8)
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(line * 500) for _ in range(side // 500)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


PICTURES = (
    Picture("Snow above the forest.jpg", "baseline JPEG", _baseline_jpeg),
    Picture("Red evening.jpg", "progressive JPEG", _progressive_jpeg),
    Picture("IMG_2417.JPG", "JPEG lying on its side, with GPS", _rotated_jpeg),
    Picture("Desert badge.png", "PNG with transparency", _alpha_png),
    Picture("Nebelmorgen über den Höhen.png", "PNG with 16 bits", _deep_png),
    Picture("Moon over the lake.png", "PNG with a palette", _palette_png),
    Picture("A day passes.gif", "animated GIF", _animated_gif),
    Picture("Fog lifts.webp", "animated WebP", _animated_webp),
    Picture("scans/Red rock.tif", "TIFF", _tiff),
    Picture("Northern lights.avif", "AVIF", _avif),
    Picture("print/Catalogue page.jpg", "JPEG in CMYK", _cmyk_jpeg),
    Picture("Vivid dusk.jpg", "JPEG in Display P3", _wide_gamut_jpeg),
    Picture("Upload cut short.jpg", "truncated JPEG", _truncated_jpeg, must_fail=True),
    Picture("Poster, 400 megapixels.png", "PNG past the pixel limit", _huge_png, must_fail=True),
)
