"""Opens a downloaded source: what it is, whether it may be decoded, and as which file."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobqueue.media import heic
from jobqueue.media.formats import Format, Probe, probe, sniff

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from jobqueue.media.memory_budget import MemoryBudget


class OpenedSource(NamedTuple):
    """The file to decode, and what its header says of it."""

    path: Path
    probe: Probe


def open_source(
    path: Path,
    *,
    max_pixels: int,
    budget: MemoryBudget,
    checkpoint: Callable[[], None],
    stage: Callable[[str], AbstractContextManager[object]],
) -> OpenedSource:
    """Look at the source at `path`, and first convert HEIC to another file beside it, where that is possible.

    Raises Permanent for what is no picture, has no loader here, or has more than `max_pixels`.
    """
    format_ = sniff(path)
    if format_ is Format.HEIC:
        with stage("decode"):
            path = heic.convert(path, max_pixels=max_pixels, budget=budget, checkpoint=checkpoint)
        format_ = sniff(path)
    return OpenedSource(path, probe(path, format_, max_pixels=max_pixels))
