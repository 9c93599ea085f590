"""libvips as this project uses it: which decoders may touch foreign bytes, and what their failures mean."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import pyvips

from jobqueue.errors import JobError, Permanent, Retry
from jobqueue.media.memory_budget import tune_heap

if TYPE_CHECKING:
    from pathlib import Path

# Everything else that libvips may carry stays shut. Loaders of SVG, PDF, ImageMagick, raw and matrix files read other
# files, run other parsers or were never written for hostile bytes. Without the Ultra HDR loader such files open as the
# plain JPEG that they also are.
ALLOWED = ("Jpeg", "Png", "Webp", "Heif", "Tiff", "Nsgif")

# How libvips begins the error lines of each decoder. The whole process shares one error buffer, so the text of a failure
# may carry lines of another thread's: lines that begin otherwise are left out.
_SPEAKERS = {
    "jpeg": ("VipsJpeg", "jpegload"),
    "png": ("vipspng", "pngload", "libspng", "spngload"),
    "webp": ("webp", "webpload"),
    "avif": ("heif", "heifload"),
    "heic": ("heif", "heifload"),
    "tiff": ("tiff2vips", "tiffload", "TIFF"),
    "gif": ("gifload", "nsgif"),
}

# Words of the decoders for "the file ended before the picture did".
_CUT_SHORT = re.compile(
    r"premature end|unexpected end|libpng read error|unable to parse image|not enough data|read error", re.IGNORECASE
)

# Words of the decoders for "no memory", which another attempt may have.
_NO_MEMORY = re.compile(r"out of memory|memory allocation|cannot allocate", re.IGNORECASE)


@functools.cache
def configure() -> None:
    """Shut every loader but `ALLOWED`, one libvips thread a picture, no operation cache, two heap arenas. Runs once.

    Codecs are single-threaded, so more libvips threads a picture cost memory and bring nothing: the worker's own
    threads are the parallelism. Nobody asks for a result twice, and the cache would keep sources open.
    """
    tune_heap()
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in ALLOWED:
        pyvips.operation_block_set(f"VipsForeignLoad{name}", False)


def load(path: Path, kind: str, **options: Any) -> pyvips.Image:
    """Open the file at `path` lazily with the loader for `kind` ("jpeg", "png", ...) alone; no pixel is decoded.

    Raises `pyvips.Error` when the header cannot be read.
    """
    loader = "heif" if kind in {"avif", "heic"} else kind
    # A loader called by its name never searches the path for libvips' own "file.jpg[option]" syntax.
    image: pyvips.Image = pyvips.Operation.call(f"{loader}load", str(path), **options)
    return image


def dct_shrink(width: int, height: int, target: int) -> int:
    """The largest shrink (8, 4, 2 or 1) that a JPEG decoder does for nothing and that leaves `target` pixels or more.

    libvips' own thumbnail leaves twice that size. Once is enough (no measurable loss) and saves a sixth of the time.
    """
    # The short side of a very long or tall picture must not shrink to nothing, nor lose much to rounding.
    most = min(max(width, height) / target, min(width, height) / 16)
    return next((shrink for shrink in (8, 4, 2) if shrink <= most), 1)


def refusal(error: pyvips.Error, kind: str) -> JobError:
    """The job error that says what `error` means for a picture of `kind`.

    It is `Permanent` for damaged or unsupported bytes, `Retry` when the decoder ran out of memory. It holds no path.
    """
    lines = [line.strip() for line in str(error.detail or "").splitlines()]
    if any(_NO_MEMORY.search(line) for line in lines):
        return Retry(f"There was not enough memory to decode the {kind.upper()} picture.")
    own = [line for line in lines if line.startswith(_SPEAKERS[kind]) and "/" not in line]
    said = re.sub(r"^\w+: ", "", own[0]).rstrip(".") if own else "the decoder gave no reason"
    if any(_CUT_SHORT.search(line) for line in own):
        return Permanent(f"The {kind.upper()} picture is cut short or damaged: {said}.")
    return Permanent(f"The {kind.upper()} picture cannot be decoded: {said}.")
