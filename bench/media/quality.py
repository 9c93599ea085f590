"""How much of a picture a variant kept: SSIM and PSNR of its luma against a full decode and one Lanczos resize."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pyvips

if TYPE_CHECKING:
    from pathlib import Path

# Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity" (2004):
# a Gaussian window of 1.5 pixels, K1 = 0.01 and K2 = 0.03 on 8-bit values.
WINDOW = 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def gold(source: Path, longest: int) -> pyvips.Image:
    """The picture at `source` decoded whole and resized once, its longer side `longest` pixels or its own if smaller."""
    full = pyvips.Image.new_from_file(str(source)).autorot()
    scale = min(1.0, longest / max(full.width, full.height))
    return full.resize(scale, kernel="lanczos3").copy_memory()


def compare(reference: pyvips.Image, encoded: bytes) -> dict[str, float]:
    """SSIM (0 to 1) and PSNR (decibels) of an encoded variant against pixels of the same size."""
    ours = _luma(pyvips.Image.new_from_buffer(encoded, ""))
    theirs = _luma(reference)
    if (ours.width, ours.height) != (theirs.width, theirs.height):
        raise ValueError(f"{ours.width} x {ours.height} cannot be compared with {theirs.width} x {theirs.height}")
    error = float(((ours - theirs) ** 2).avg())
    return {"ssim": _ssim(ours, theirs), "psnr": 10 * math.log10(255**2 / error) if error else math.inf}


def _luma(image: pyvips.Image) -> pyvips.Image:
    flat = image.flatten() if image.hasalpha() else image
    return flat.colourspace("b-w").cast("float")


def _ssim(x: pyvips.Image, y: pyvips.Image) -> float:
    def mean(image: pyvips.Image) -> pyvips.Image:
        return image.gaussblur(WINDOW, precision="float", min_ampl=0.01)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    score = ((2 * mx * my + C1) * (2 * cov + C2)) / ((mx * mx + my * my + C1) * (vx + vy + C2))
    return float(score.avg())
