"""Opens a downloaded source: what it is, and whether it may be decoded."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from jobqueue.media import decode_costs
from jobqueue.media.formats import Probe, probe, sniff

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jobqueue.media.memory_budget import MemoryBudget


def open_source(path: Path, *, max_pixels: int, budget: MemoryBudget, checkpoint: Callable[[], None]) -> Probe:
    """Look at the header of the source at `path`, admitted to `budget` where that alone takes much memory.

    Raises `Permanent` for what is no picture, cannot be decoded, or has more than `max_pixels`; `Retry` when memory ran
    out; and what `checkpoint` raises while it waits.
    """
    format_ = sniff(path)
    takes = decode_costs.header_bytes(path, format_)
    with budget.admit(takes, checkpoint=checkpoint) if takes else nullcontext():
        return probe(path, format_, max_pixels=max_pixels)
