"""libvips as this project uses it: which decoders may touch foreign bytes, and how."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pyvips

from jobqueue.media import png_chunks, shown_copy
from jobqueue.media.memory_budget import tune_heap

if TYPE_CHECKING:
    from pathlib import Path

# Everything else that libvips may carry stays shut. Loaders of SVG, PDF, ImageMagick, raw and matrix files read other
# files, run other parsers or were never written for hostile bytes. Without the Ultra HDR loader such files open as the
# plain JPEG that they also are.
ALLOWED = ("Jpeg", "Png", "Webp", "Heif", "Tiff", "Nsgif")


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

    Ancillary data of a PNG that would take much memory is left out. Raises `pyvips.Error` when the header cannot be read.
    """
    if kind == "png" and (parts := png_chunks.shown_parts(path)):
        path = shown_copy.write_copy(path, parts)
    loader = "heif" if kind == "avif" else kind
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
