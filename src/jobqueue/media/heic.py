"""HEIC (HEVC in HEIF), which libvips' wheel does not decode: pi-heif does, libheif and libde265 in a wheel.

libheif puts grids together and applies what the container says of turning, mirroring and cropping. The orientation of
Exif is for information only (ISO/IEC 23000-22 section 7.3.10.1) and stays unread. The picture is the primary item: no
thumbnail, no depth map, no gain map, and no other picture of a burst.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pi_heif
import pyvips

from jobqueue.errors import JobError, Permanent
from jobqueue.media import colour_codes, decoder_errors, heif_boxes

if TYPE_CHECKING:
    from pathlib import Path

    from jobqueue.media.colour_codes import ColourCode

_FAILURES = (MemoryError, ValueError, RuntimeError, EOFError, SyntaxError, OSError, IndexError)

_BANDS = {"L": 1, "LA": 2, "La": 2, "I": 1, "RGB": 3, "RGBA": 4, "RGBa": 4}


class HeifHeader(NamedTuple):
    """What a HEIF file says of its primary picture, as displayed. `profile` is an ICC profile, `code` its nclx box.

    `subsampled` is whether its chroma has half the rows and columns, or it has none.
    """

    width: int
    height: int
    bands: int
    bits: int
    has_alpha: bool
    subsampled: bool
    pictures: int
    profile: bytes | None
    code: ColourCode | None


def read_header(path: Path, kind: str = "HEIC") -> HeifHeader:
    """The header of the HEIC or AVIF picture at `path`; `kind` is for words. No pixel is decoded, but the file is read as a whole.

    Raises what `failure` makes of an unreadable one.
    """
    try:
        return _header(_opened(path))
    except _FAILURES as error:
        raise failure(error, kind) from None


def pixels(path: Path) -> pyvips.Image:
    """The primary picture of the HEIC file at `path`, decoded into memory: grey or RGB, of 8 or 16 bits, alpha kept.

    It carries its ICC profile. Raises what `failure` makes of a damaged one.
    """
    try:
        opened = _opened(path)
        header = _header(opened)
        data = opened.data
    except _FAILURES as error:
        raise failure(error) from None
    depth = "ushort" if header.bits > 8 else "uchar"
    image = pyvips.Image.new_from_memory(data, header.width, header.height, header.bands, depth)
    image._references.append(opened)  # the memory is its, and pyvips keeps what is in this list as long as it is used
    grey = header.bands < 3
    space = ("grey16" if grey else "rgb16") if header.bits > 8 else ("b-w" if grey else "srgb")
    image = image.copy(interpretation=space)
    if header.bits > 8:
        # It shifts 10 or 12 bits to the left: their white is a little less than that of 16.
        image = image.linear(65535 / (65536 - 2 ** (16 - opened.info["bit_depth"])), 0.5).cast(depth)
    if opened.premultiplied_alpha:
        image = image.unpremultiply(max_alpha=2**header.bits - 1).cast(depth).copy(interpretation=space)
    if header.profile is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", header.profile)
    return image


def _opened(path: Path) -> pi_heif.HeifFile:
    # Above 8 bits it gives 16: a picture of high dynamic range needs them, and others lose nothing.
    return pi_heif.open_heif(heif_boxes.prepared(path), convert_hdr_to_8bit=False)


def _header(opened: pi_heif.HeifFile) -> HeifHeader:
    width, height = opened.size
    space, _, depth = opened.mode.partition(";")
    nclx = opened.info.get("nclx_profile")
    return HeifHeader(
        width=width,
        height=height,
        bands=_BANDS[space],
        bits=16 if depth else 8,
        has_alpha=opened.has_alpha,
        subsampled=opened.info.get("chroma") in {None, 420},
        pictures=len(opened),
        profile=opened.info.get("icc_profile"),
        code=nclx and colour_codes.from_nclx(nclx["color_primaries"], nclx["transfer_characteristics"]),
    )


def failure(error: Exception, kind: str = "HEIC") -> JobError:
    """The job error that says what an error of pi-heif means: `Permanent`, or `Retry` where memory ran out."""
    if isinstance(error, MemoryError):
        return decoder_errors.out_of_memory(kind)
    if isinstance(error, heif_boxes.CutShortError):
        return Permanent(f"The {kind} picture is cut short or damaged: {error}.")
    said = re.sub(r"\s+", " ", str(error)).strip()
    return decoder_errors.by_words([said] if said else [], kind)
