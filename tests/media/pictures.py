"""Pictures made in code: every kind that publishing has to take or refuse. No file is committed."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyvips
from PIL import Image, ImageCms

from jobqueue.media.formats import probe, sniff
from jobqueue.media.variants import Variants, render

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

ORIENTATION = 0x0112


def gradient(width: int = 300, height: int = 200) -> Pixels:
    """Soft colours that every codec keeps well: red runs right, green down, blue against both. RGB, 8-bit."""
    across = np.linspace(30, 225, width)[None, :]
    down = np.linspace(30, 225, height)[:, None]
    red, green, blue = across + 0 * down, down + 0 * across, 255 - (across + down) / 2
    return np.stack([red, green, blue], axis=2).round().astype(np.uint8)


def noise(width: int, height: int) -> Pixels:
    """Pixels that do not compress, so that a part of the file is a part of the picture."""
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: Pixels, **options: Any) -> Path:
    """Save `pixels` with Pillow in the format that the suffix names."""
    Image.fromarray(pixels).save(path, **options)
    return path


def vips(pixels: Pixels) -> pyvips.Image:
    """`pixels` as a libvips image, sRGB."""
    return pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")


def tagged(image: pyvips.Image, orientation: int) -> pyvips.Image:
    """`image` with an EXIF orientation."""
    copy = image.copy()
    copy.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return copy


def exif(orientation: int | None = None, *, gps: bool = False) -> bytes:
    """EXIF with an orientation, and a place and a maker's name when `gps`."""
    data = Image.Exif()
    if orientation is not None:
        data[ORIENTATION] = orientation
    if gps:
        data[0x010F] = "SecretCamera"
        data.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)})
    return data.tobytes()


def unturned(pixels: Pixels, orientation: int) -> Pixels:
    """What a camera stores so that a viewer who obeys `orientation` shows `pixels` (EXIF 2.32, tag 0x0112)."""
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(undo[orientation](pixels))


def srgb_profile() -> bytes:
    """An sRGB profile as LittleCMS writes it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """A profile that calls itself sRGB and has red and green the wrong way round."""
    return srgb_profile().replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def decode(data: bytes) -> Pixels:
    """The pixels of an encoded variant, RGB, or RGBA where it has alpha. Decoded by Pillow, not by libvips."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA" if "A" in image.getbands() else "RGB"))


def psnr(one: Pixels, other: Pixels) -> float:
    """Likeness of two pictures of one size, decibels: above 35 the eye sees no difference in colours."""
    assert one.shape == other.shape, f"{one.shape} is not {other.shape}"
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims `width` x `height` pixels and holds none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def iso_media(major: bytes, *compatible: bytes) -> bytes:
    """The `ftyp` box that an ISO media file of these brands begins with."""
    body = major + b"\0\0\0\0" + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + b"\0" * 64


def publish(path: Path, **options: Any) -> Variants:
    """The worker's way from the file at `path`: sniff, probe, render."""
    return render(path, probe(path, sniff(path), max_pixels=120_000_000), **options)


def shown(path: Path) -> Pixels:
    """The pixels of the display variant of the file at `path`."""
    return decode(publish(path).display.data)


def assert_colour(pixels: Pixels, expected: tuple[int, ...], across: float = 0.5, down: float = 0.5) -> None:
    """The pixel at that part of the width and height is within 3 of 255 of `expected`."""
    height, width = pixels.shape[:2]
    found = pixels[int(down * (height - 1)), int(across * (width - 1))]
    assert len(found) == len(expected), f"{found} is not {expected}"
    assert np.abs(found.astype(int) - expected).max() <= 3, f"{found} is not {expected}"


# Prints the bytes by which the peak of memory grew while the picture was looked at, and published.
_GROWTH = """
import sys
from pathlib import Path
from jobqueue.media.formats import probe, sniff
from jobqueue.media.variants import render
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
path = Path(sys.argv[1])
before = peak()
found = probe(path, sniff(path), max_pixels=10_000)
looked = peak()
render(path, found)
print(looked - before, peak() - looked)
"""


def growth(path: Path) -> tuple[int, int]:
    """Bytes by which the peak of a process grew while it looked at the picture at `path`, and then while it published it."""
    answer = subprocess.run([sys.executable, "-c", _GROWTH, str(path)], capture_output=True, text=True, check=True)
    looked, published = map(int, answer.stdout.split())
    return looked, published
