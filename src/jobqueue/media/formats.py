"""What the bytes are and what decoding them will cost, from content alone and before any pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import pyvips

from jobqueue.errors import Permanent
from jobqueue.media import (
    colour,
    decode_costs,
    decoder_errors,
    heic,
    heif_boxes,
    loaders,
    png_chunks,
    tiff_layout,
    tiff_pixels,
)

if TYPE_CHECKING:
    from pathlib import Path

    from jobqueue.media.colour_codes import ColourCode

_HEAD = 4096  # enough leading bytes to tell every format below, and an SVG behind its XML prologue

# libvips takes a minute to open a HEIF file whose profile has megabytes.
_MOST_META = 4_000_000

# The longer side of the display variant in pixels: the estimate of memory is for that.
DISPLAY_SIZE = 1600


class Format(StrEnum):
    """A kind of picture, by its name in libvips and Pillow. `HEIC` is HEVC in a HEIF container, `AVIF` is AV1 in one."""

    JPEG = "jpeg"
    PNG = "png"
    GIF = "gif"
    WEBP = "webp"
    TIFF = "tiff"
    AVIF = "avif"
    HEIC = "heic"


@dataclass(frozen=True, slots=True)
class Probe:
    """What the header of a picture says.

    `width` and `height` are those of the first page or frame, in pixels as displayed, after EXIF orientation.
    `memory_bytes` is an upper estimate of what decoding and encoding hold at their peak, on top of the process itself.
    The colours are those of `code` where there is one, else of a `foreign_profile` in the file, else sRGB.
    """

    format: Format
    width: int
    height: int
    pages: int
    bands: int
    bits: int
    has_alpha: bool
    interlaced: bool
    memory_bytes: int
    code: ColourCode | None = None
    foreign_profile: bool = False


def sniff(path: Path) -> Format:
    """The format of the file at `path`, by its leading bytes. Its name plays no part.

    Raises `Permanent` for an empty file and for everything that is not one of `Format`; the message names it if it can.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise Permanent("The source is empty (0 bytes).")
    for magic, format_ in _MAGIC:
        if head.startswith(magic):
            return format_
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Format.WEBP
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    raise Permanent(f"The source is {_foreign(head)}, not a picture that can be published.")


_MAGIC = (
    (b"\xff\xd8\xff", Format.JPEG),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"GIF87a", Format.GIF),
    (b"GIF89a", Format.GIF),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"II+\0", Format.TIFF),  # BigTIFF
    (b"MM\0+", Format.TIFF),
)

# Pictures, their sequences, and the profiles of MIAF, by codec.
_AV1_BRANDS = {b"avif", b"avis", b"avio", b"MA1A", b"MA1B"}
_HEVC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"MiHA", b"MiHB", b"MiHE"}

# HEIF whatever its codec: then the configuration of the codec tells.
_HEIF_BRANDS = {b"mif1", b"mif2", b"mif3", b"msf1", b"miaf", b"1pic"}

_FOREIGN = (
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"8BPS", "a Photoshop document"),
    (b"BM", "a BMP picture"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"SIMPLE  =", "a FITS picture"),
    (b"qoif", "a QOI picture"),
    (b"FUJIFILMCCD-RAW", "a camera raw file"),
    (b"IIRO", "a camera raw file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)


def _iso_media(head: bytes) -> Format:
    """The format behind an ISO base media `ftyp` box, by its brands (ISO/IEC 23008-12 annex B, AVIF 1.1)."""
    size = int.from_bytes(head[:4])
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    for brand in brands:  # the major one first
        if brand in _AV1_BRANDS:
            return Format.AVIF
        if brand in _HEVC_BRANDS:
            return Format.HEIC
    if _HEIF_BRANDS & set(brands):
        if b"hvcC" in head:
            return Format.HEIC
        if b"av1C" in head:
            return Format.AVIF
        raise Permanent("The source is a HEIF picture with an unknown codec, which cannot be decoded.")
    if brands[0] == b"crx ":
        raise Permanent("The source is a camera raw file, not a picture that can be published.")
    raise Permanent("The source is a video or audio file, not a picture that can be published.")


def _foreign(head: bytes) -> str:
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            return name
    if b"%PDF-" in head[:1024]:
        return "a PDF document"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if text.startswith((b"<?xml", b"<!--", b"<!doctype", b"<svg")):
        return "an SVG drawing" if b"<svg" in text else "an HTML page" if b"<html" in text else "an XML document"
    if text.startswith((b"{", b"[")):
        return "JSON text"
    return "text" if _is_text(head) else "of an unknown format"


def _is_text(head: bytes) -> bool:
    """Whether these leading bytes are UTF-8 without control characters. The last character may be cut."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if len(head) < _HEAD or error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\t\n\r" for character in text)


def probe(path: Path, format_: Format, *, max_pixels: int) -> Probe:
    """Read the header of the picture at `path`, which `sniff` said is `format_`.

    Raises `Permanent` when the header is damaged, when the picture has more than `max_pixels` pixels, when it is a
    camera raw file in a TIFF's clothes, and when its colours are not known; `Retry` when memory ran out.
    """
    if format_ is Format.HEIC:
        return _probe_heic(path, max_pixels)
    image, has_alpha = _header(path, format_)
    width, height = image.width, image.height
    if 5 <= _number(image, "orientation") <= 8:
        width, height = height, width
    check_pixels(width, height, max_pixels)
    has_profile = bool(image.get_typeof("icc-profile-data"))
    code = _code(path, format_, has_profile=has_profile)
    return Probe(
        format=format_,
        width=width,
        height=height,
        pages=_number(image, "n-pages") or 1,
        bands=image.bands,
        bits=decode_costs.sample_bits(image),
        has_alpha=has_alpha,
        interlaced=bool(_number(image, "interlaced")),
        memory_bytes=decode_costs.memory_bytes(path, format_, image, DISPLAY_SIZE),
        code=_converted(code),
        foreign_profile=code is None and colour.foreign_profile(image),
    )


def _header(path: Path, format_: Format) -> tuple[pyvips.Image, bool]:
    """The picture as libvips opens it, and whether it has alpha."""
    if format_ is Format.AVIF and heif_boxes.meta_bytes(path) > _MOST_META:
        raise Permanent("The AVIF picture is too large for its decoder: its description has more than 4 MB.")
    try:
        if format_ is not Format.TIFF:
            image = loaders.load(path, format_)
            return image, bool(image.hasalpha())
        layout = tiff_layout.read_layout(path)
        if layout.is_camera_raw:
            raise Permanent("The source is a camera raw file, not a picture that can be published.")
        tiff_pixels.check(layout)
        return tiff_pixels.header(path, layout), tiff_pixels.has_alpha(layout.page)
    except pyvips.Error as error:
        raise decoder_errors.refusal(error, format_) from None


def _number(image: pyvips.Image, field: str) -> int:
    """A number among the fields, or 0. Their names are never listed: those of comments need not be UTF-8."""
    return int(image.get(field)) if image.get_typeof(field) else 0


def _code(path: Path, format_: Format, *, has_profile: bool) -> ColourCode | None:
    """What a picture says of its colours by numbers, where no profile decides."""
    match format_:
        case Format.PNG:
            return png_chunks.colours(path, has_profile=has_profile)
        case Format.AVIF:
            return heic.read_header(path, "AVIF").code
    return None


def _converted(code: ColourCode | None) -> ColourCode | None:
    """`code`, or None where there is nothing to convert."""
    return None if code is None or code.is_srgb else code


def _probe_heic(path: Path, max_pixels: int) -> Probe:
    header = heic.read_header(path)
    check_pixels(header.width, header.height, max_pixels)
    return Probe(
        format=Format.HEIC,
        width=header.width,
        height=header.height,
        pages=header.pictures,
        bands=header.bands,
        bits=header.bits,
        has_alpha=header.has_alpha,
        interlaced=False,
        memory_bytes=decode_costs.heic_bytes(path, header, DISPLAY_SIZE),
        code=_converted(header.code),
        foreign_profile=header.profile is not None and not colour.is_srgb(header.profile),
    )


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise `Permanent`, with both numbers, when `width` x `height` is over `max_pixels`."""
    if width * height > max_pixels:
        raise Permanent(
            f"The picture is {width} x {height} = {width * height:,} pixels; at most {max_pixels:,} are allowed (MAX_SOURCE_PIXELS)."
        )


loaders.configure()
