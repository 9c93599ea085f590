"""A copy of a source as a decoder is to see it, where the file itself would cost too much or be misread.

libvips could read a custom source in Python instead; but it calls the source after Python has freed it, and the process
dies (pyvips 3.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_CHUNK = 1 << 20


class FilePiece(NamedTuple):
    """The bytes of the file from `start` up to `end`."""

    start: int
    end: int


def write_copy(path: Path, parts: Sequence[FilePiece | bytes]) -> Path:
    """Write `parts` of the file at `path`, and bytes between them, to a file beside it. Returns where it is.

    It goes when its folder does; one that is there is replaced.
    """
    target, unfinished = path.with_name(f"{path.name}.shown"), path.with_name(f"{path.name}.unfinished")
    with path.open("rb") as source, unfinished.open("wb") as copy:
        for part in parts:
            if isinstance(part, bytes):
                copy.write(part)
                continue
            source.seek(part.start)
            while (left := part.end - source.tell()) > 0 and (data := source.read(min(left, _CHUNK))):
                copy.write(data)
    unfinished.replace(target)
    return target
