"""Opens a downloaded source: what it is, whether it may be decoded, and as which file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.media import heic
from jobqueue.media.formats import Format, Probe, probe, sniff

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from jobqueue.media.memory_budget import MemoryBudget


def open_source(
    path: Path,
    *,
    max_pixels: int,
    budget: MemoryBudget,
    checkpoint: Callable[[], None],
    stage: Callable[[str], AbstractContextManager[object]],
) -> tuple[Path, Probe]:
    """The file to decode and what its header says of it. HEIC is converted beside `path` first, where that is possible.

    Raises Permanent for what is no picture, has no loader here, or has more than `max_pixels`.
    """
    format_ = sniff(path)
    if format_ is Format.HEIC:
        with stage("decode"):
            path = heic.convert(path, max_pixels=max_pixels, budget=budget, checkpoint=checkpoint)
        format_ = sniff(path)
    return path, probe(path, format_, max_pixels=max_pixels)
