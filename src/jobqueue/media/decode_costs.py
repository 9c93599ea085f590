"""What decoding a picture holds in memory, estimated from its header.

Every figure here is measured: the growth of peak resident size while one picture was rendered (libvips 8.18.7,
24-megapixel sources of each kind). `bench/media/memory.py --estimates` prints each estimate beside a new measurement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.media import heif_boxes, loaders, picture_headers, tiff_layout

if TYPE_CHECKING:
    from pathlib import Path

    import pyvips

    from jobqueue.media.heic import HeifHeader

_SAMPLE_BYTES = {
    "uchar": 1,
    "char": 1,
    "ushort": 2,
    "short": 2,
    "uint": 4,
    "int": 4,
    "float": 4,
    "double": 8,
    "complex": 8,
    "dpcomplex": 16,
}

# The display variant in memory, its encoder and the thumb, in bytes per display pixel. With alpha, libwebp packs a
# second, lossless picture.
_ENCODE, _ENCODE_ALPHA = 12, 47

# Source rows that the resize keeps in flight, per unit of shrink: we saw 740 rows at 3.75.
_ROWS = 220

# Bytes that the share of the budget which is the process's own has room for.
_SMALL = 4_000_000

# What a HEIF file takes until its header is read: its bytes, a copy without metadata, and what both libraries read of it.
# Profiles and numbers stand in the box "meta", and are handed on more often.
_HEIF_FILE, _HEIF_META = 5, 4

# Threads' stacks, read buffers, tables; and a factor on the other estimates, for pictures differ.
_CONSTANT, _MARGIN = 6_000_000, 1.15

# The AV1 decoder's frames and the conversions behind it, in bytes a pixel: 16 (4:2:0) to 19 (4:4:4) with everything, 27
# above 8 bits.
_AVIF, _AVIF_DEEP = 17, 23

# HEIC: what is held beside the pixels, in samples a pixel: the decoder's frame, and without subsampling a copy of it.
_HEIC, _HEIC_444 = 1.5, 5

# GIF: the canvas as RGBA, the palette frame, and libvips' copy.
_GIF = 5


def sample_bits(image: pyvips.Image) -> int:
    """Bits that one sample of `image` takes in memory: 8, 16, 32 or more."""
    return 8 * _SAMPLE_BYTES[image.format]


def header_bytes(path: Path, format_: str) -> int:
    """Upper estimate of the bytes that reading the header of the picture at `path` takes; 0 where that is next to none."""
    if format_ in {"heic", "avif"}:
        takes = _HEIF_FILE * path.stat().st_size + _HEIF_META * heif_boxes.meta_bytes(path)
    else:
        takes = _metadata(path, format_)
    return takes if takes > _SMALL else 0


def _metadata(path: Path, format_: str) -> int:
    """What metadata takes until the picture is encoded: it is held, and handed on from image to image."""
    match format_:
        case "jpeg":
            return 3 * picture_headers.jpeg_metadata(path)
        case "webp":
            return 3 * picture_headers.webp_metadata(path)
        case "tiff":
            return 4 * tiff_layout.read_layout(path).metadata_bytes
        case "gif":
            return path.stat().st_size
    return 0


def memory_bytes(path: Path, format_: str, image: pyvips.Image, display_size: int) -> int:
    """Upper estimate of the bytes that rendering the picture at `path` takes at its peak, without the process itself.

    `image` is its header as libvips opened it; `display_size` is the longer side of the largest variant, in pixels.
    """
    pixels = image.width * image.height
    sample = sample_bits(image) // 8
    row = image.width * image.bands * sample
    shrink = max(max(image.width, image.height) / display_size, 1.0)
    display = pixels / shrink**2
    whole = 0  # held until the last byte is decoded
    in_flight = 0  # rows on their way from a decoder that yields them one by one to the resize
    mapped = 0  # formats whose decoder wants the whole file
    match format_:
        case "jpeg":
            if _whole_frame(image):
                whole = _coefficients(path, pixels, image.bands)
            reduced = loaders.dct_shrink(image.width, image.height, display_size)
            in_flight = _rows(image, shrink / reduced) * row // reduced
        case "png" if _whole_frame(image):
            whole = pixels * image.bands * sample
        case "png":
            in_flight = _rows(image, shrink) * row
        case "tiff":
            whole = tiff_layout.read_layout(path).page.block_bytes(image.width, image.height, row)
            in_flight = _rows(image, shrink) * row
        case "gif":
            whole, mapped = _GIF * pixels, path.stat().st_size
        case "webp":
            traits = picture_headers.webp_traits(path)
            whole = pixels * (4 * traits.lossless + traits.alpha + 5 * traits.animated)
            mapped = path.stat().st_size
        case "avif":
            whole, mapped = pixels * (_AVIF_DEEP if sample > 1 else _AVIF), path.stat().st_size
    mapped += _metadata(path, format_)
    total = _sum(whole + in_flight, display, mapped, has_alpha=image.hasalpha())
    # Elsewhere the header costs its metadata, which is in the sum.
    return max(total, header_bytes(path, format_)) if format_ == "avif" else total


def heic_bytes(path: Path, header: HeifHeader, display_size: int) -> int:
    """Upper estimate of the bytes that rendering the HEIC picture at `path` takes at its peak."""
    pixels = header.width * header.height
    samples = header.bands + (_HEIC if header.subsampled else _HEIC_444)
    whole = int(pixels * samples * header.bits / 8)
    shrink = max(max(header.width, header.height) / display_size, 1.0)
    total = _sum(whole, pixels / shrink**2, path.stat().st_size, has_alpha=header.has_alpha)
    return max(total, header_bytes(path, "heic"))


def _sum(decode: int, display: float, mapped: int, *, has_alpha: bool) -> int:
    encode = display * (_ENCODE_ALPHA if has_alpha else _ENCODE)
    return int(_MARGIN * (decode + encode)) + mapped + _CONSTANT


def _rows(image: pyvips.Image, shrink: float) -> int:
    return min(int(image.height), int(_ROWS * shrink))


def _whole_frame(image: pyvips.Image) -> bool:
    """Whether the picture is ready only at its end: a JPEG with several scans, or an interlaced PNG."""
    return bool(image.get_typeof("interlaced")) and bool(image.get("interlaced"))


def _coefficients(path: Path, pixels: int, bands: int) -> int:
    """Bytes that the coefficients of a whole JPEG take: two for each sample of each component, subsampled or not."""
    components = picture_headers.jpeg_sampling(path)
    if not components:
        return 2 * pixels * bands
    widest, tallest = max(each.horizontal for each in components), max(each.vertical for each in components)
    return int(2 * pixels * sum(each.horizontal * each.vertical for each in components) / (widest * tallest))
