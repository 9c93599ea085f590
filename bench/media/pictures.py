"""Photograph-like sources for the benchmarks, made once into a folder.

    python bench/media/pictures.py [FOLDER]

Soft light, texture of several scales, hard edges and mild sensor noise: JPEG quality 92, 4:2:0, about 0.2 bytes a
pixel as cameras write, at 12, 24, 48 and 100 megapixels, and one 24-megapixel PNG of 1.7 bytes a pixel. The same bytes
on every run of one libvips version.
"""

from __future__ import annotations

import random
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvips
from PIL import Image, ImageDraw

CACHE = Path(tempfile.gettempdir()) / "jobqueue-bench-pictures"

# Contrast of the texture at each cell size, pixels of a 12-megapixel frame: falling with the scale, as in nature.
OCTAVES = ((1024, 34.0), (256, 20.0), (64, 11.0), (16, 8.0), (6, 5.0))
CHROMA = ((1024, 22.0), (192, 9.0))
SENSOR_NOISE = 3.2


@dataclass(frozen=True, slots=True)
class Source:
    """One benchmark input: its file's name, its pixels and how it is saved."""

    name: str
    width: int
    height: int
    options: dict[str, Any]


JPEG = {"Q": 92, "subsample_mode": "on"}
# Row filters chosen row by row, as libpng writes 8-bit truecolour unless it is told otherwise. libvips' own default is
# none, which suits diagrams; it makes this photograph 64 MB, not 40.
PNG = {"compression": 6, "filter": "all"}
SOURCES = (
    Source("12mp.jpg", 4032, 3024, JPEG),
    Source("24mp.jpg", 6000, 4000, JPEG),
    Source("48mp.jpg", 8064, 6048, JPEG),
    Source("100mp.jpg", 11600, 8700, JPEG),
    Source("24mp.png", 6000, 4000, PNG),
)
PROGRESSIVE = Source("24mp-progressive.jpg", 6000, 4000, {**JPEG, "interlace": True})


def make(source: Source, folder: Path = CACHE) -> Path:
    """The file of `source` in `folder`, made when it is not there yet; one of another recipe is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = f"{source} {OCTAVES} {CHROMA} {SENSOR_NOISE} {pyvips.version(0)}.{pyvips.version(1)}"
    path = folder / f"{zlib.crc32(recipe.encode()):08x}-{source.name}"
    if not path.exists():
        partial = path.with_name(f"partial-{path.name}")
        photograph(source.width, source.height).write_to_file(str(partial), **source.options)
        partial.rename(path)
    return path


def photograph(width: int, height: int, seed: int = 7) -> pyvips.Image:
    """A picture of `width` x `height` pixels, 8-bit sRGB, computed as it is read."""
    zoom = max(width / 4032, 0.05)
    luma = _edges(width, height, seed) + 118.0
    for index, (cell, contrast) in enumerate(OCTAVES):
        luma += _noise(width, height, cell * zoom, contrast, seed + index)
    channels = [luma]
    for channel in (1, 2):
        tint = pyvips.Image.black(width, height)
        for index, (cell, contrast) in enumerate(CHROMA):
            tint += _noise(width, height, cell * zoom, contrast, seed + 100 * channel + index)
        channels.append(tint)
    y, u, v = channels
    bands = [y + 1.1 * v, y - 0.3 * u - 0.5 * v, y + 1.3 * u]
    noisy = [
        band + pyvips.Image.gaussnoise(width, height, mean=0, sigma=SENSOR_NOISE, seed=seed + 500 + i)
        for i, band in enumerate(bands)
    ]
    return noisy[0].bandjoin(noisy[1:]).cast("uchar").copy(interpretation="srgb")


def _noise(width: int, height: int, cell: float, contrast: float, seed: int) -> pyvips.Image:
    across, down = int(width / cell) + 4, int(height / cell) + 4
    small = pyvips.Image.gaussnoise(across, down, mean=0, sigma=contrast, seed=seed).copy_memory()
    return small.resize(cell, kernel="cubic").crop(int(cell), int(cell), width, height)


def _edges(width: int, height: int, seed: int) -> pyvips.Image:
    """Overlapping discs and beams of differing brightness, -50 to 50 around nothing."""
    chance = random.Random(seed)
    canvas = Image.new("L", (width, height), 50)
    draw = ImageDraw.Draw(canvas)
    for _ in range(60):
        x, y = chance.randrange(width), chance.randrange(height)
        size = chance.uniform(0.01, 0.12) * width
        box = (x - size, y - size * chance.uniform(0.3, 1), x + size, y + size)
        if chance.random() < 0.6:
            draw.ellipse(box, fill=chance.randrange(100))
        else:
            far = (chance.randrange(width), chance.randrange(height))
            draw.line([(x, y), far], fill=chance.randrange(100), width=max(1, int(size / 8)))
    return pyvips.Image.new_from_memory(canvas.tobytes(), width, height, 1, "uchar") - 50.0


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else CACHE
    for wanted in (*SOURCES, PROGRESSIVE):
        made = make(wanted, folder)
        size = made.stat().st_size
        print(f"{made}  {size:,} bytes  {size / (wanted.width * wanted.height):.3f} bytes a pixel")
