"""Small pictures to publish, where what is in them does not matter."""

from __future__ import annotations

import pyvips


def picture(seed: int, width: int = 400, height: int = 300) -> bytes:
    """A small JPEG; each seed gives other bytes."""
    noise = pyvips.Image.gaussnoise(width, height, mean=128, sigma=40, seed=seed).cast("uchar")
    data: bytes = noise.bandjoin([noise.rot180(), noise.fliphor()]).jpegsave_buffer(Q=70)
    return data
