"""The pixels of a source as they are to be resized: decoded row by row where the format can, and in colours that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.media import colour_codes, heic, loaders, tiff_layout, tiff_pixels
from jobqueue.media.formats import DISPLAY_SIZE, Format, Probe

if TYPE_CHECKING:
    from pathlib import Path

    import pyvips

# We refuse damage that a decoder calls an error, and files that end early. We accept what it only warns of (stray bytes
# between segments, odd tags), as browsers do.
FAIL_ON = "error"

# libwebp scales a picture whose chroma is one pixel wide to other colours (1.6.0).
_NARROW = 3


def scaled_by_decoder(probe: Probe) -> bool:
    """Whether `pyvips.Image.thumbnail` is to open the file itself: only so does WebP's decoder scale what it decodes."""
    return probe.format is Format.WEBP and probe.width >= _NARROW <= probe.height


def load(path: Path, probe: Probe) -> pyvips.Image:
    """The picture at `path`, lazily but for HEIC, which is decoded here. It carries an ICC profile, or is in sRGB.

    Raises `pyvips.Error`, now or when pixels are computed; for HEIC and TIFF `Permanent` or `Retry`.
    """
    match probe.format:
        case Format.HEIC:
            image = heic.pixels(path)
        case Format.JPEG:
            shrink = loaders.dct_shrink(probe.width, probe.height, DISPLAY_SIZE)
            image = loaders.load(path, probe.format, access="sequential", fail_on=FAIL_ON, shrink=shrink)
        case Format.TIFF:
            # Without "unlimited" libtiff refuses strips over 50 MB. The estimate that admitted the picture has counted them.
            layout = tiff_layout.read_layout(path)
            image = tiff_pixels.pixels(path, layout, FAIL_ON, access="sequential", unlimited=True)
        case _:
            image = loaders.load(path, probe.format, access="sequential", fail_on=FAIL_ON)
    return image if probe.code is None else _in_srgb(image, probe.code)


def _in_srgb(image: pyvips.Image, code: colour_codes.ColourCode) -> pyvips.Image:
    if not image.hasalpha():
        # What is computed for each pixel is computed for fewer of them, still more than the display variant has.
        shrink = max(image.width, image.height) // DISPLAY_SIZE
        if shrink > 1:
            image = image.shrink(min(shrink, image.width), min(shrink, image.height))
    image = colour_codes.to_srgb(image, code)
    image.remove("icc-profile-data")
    return image
