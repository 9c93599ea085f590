"""How much memory pictures in work may hold together, and who may begin next."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20

# What the process holds besides pictures in work: interpreter and imports (62 MiB resident with psycopg, boto3, uvicorn
# and libvips before the first job), connections' buffers, uploads, and heap that the allocator keeps between pictures.
PROCESS_BYTES = 144 * MIB

# Below this no phone's photograph would fit, and the budget admits every picture alone anyway.
SMALLEST_BUDGET = 64 * MIB

# Between two looks at whether the wait is still wanted, seconds.
_WAIT = 0.5


class MemoryBudget:
    """Admits pictures by the bytes they are estimated to hold, first come, first served. Safe between threads.

    The order is strict: nobody passes the one at the head while it does not fit. So a large picture waits for the small
    ones already in, and never for those behind it. A picture larger than the whole budget is admitted alone.
    """

    def __init__(self, total_bytes: int) -> None:
        if total_bytes <= 0:
            raise ValueError(f"a memory budget must be positive, not {total_bytes} bytes")
        self.total = total_bytes
        self._used = 0
        self._inside = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def used(self) -> int:
        """Bytes that the admitted pictures are estimated to hold now."""
        return self._used

    @property
    def waiting(self) -> int:
        """How many pictures wait to be admitted now."""
        return len(self._queue)

    @contextmanager
    def admit(self, nbytes: int, *, checkpoint: Callable[[], None] | None = None) -> Iterator[None]:
        """Wait until `nbytes` of the budget are free, and hold them for the block.

        `checkpoint` is called about every half second of waiting; whatever it raises ends the wait and is raised.
        """
        self._enter(nbytes, checkpoint)
        try:
            yield
        finally:
            with self._changed:
                self._used -= nbytes
                self._inside -= 1
                self._changed.notify_all()

    def _enter(self, nbytes: int, checkpoint: Callable[[], None] | None) -> None:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
        try:
            while not self._admitted(ticket, nbytes):
                if checkpoint is not None:
                    checkpoint()
        except BaseException:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()
            raise

    def _admitted(self, ticket: object, nbytes: int) -> bool:
        """Take the place if it is this ticket's turn and the bytes fit, after at most one wait for a change."""
        with self._changed:
            if not self._fits(ticket, nbytes):
                self._changed.wait(_WAIT)
                if not self._fits(ticket, nbytes):
                    return False
            self._queue.popleft()
            self._used += nbytes
            self._inside += 1
            self._changed.notify_all()
            return True

    def _fits(self, ticket: object, nbytes: int) -> bool:
        return self._queue[0] is ticket and (self._inside == 0 or self._used + nbytes <= self.total)


def default_budget(root: Path = Path("/")) -> int:
    """Bytes for pictures by default: the container's limit, or the machine's memory, less `PROCESS_BYTES`.

    Reads control groups version 2, then version 1, below `root`. Never less than `SMALLEST_BUDGET`.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = min([physical, *_container_limits(root)])
    return max(limit - PROCESS_BYTES, SMALLEST_BUDGET)


def _container_limits(root: Path) -> Iterator[int]:
    """Every memory limit of the control groups this process is in, from its own group up to the root's."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in memberships:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # Inside a container the file may name a group of the host whose folder is not mounted: the base always is.
        inner = Path(group.lstrip("/"))
        for folder in (inner, *inner.parents):
            # "max" and a missing file mean the same: no limit here.
            with contextlib.suppress(OSError, ValueError):
                yield int((base / folder / name).read_text())


def tune_heap(arenas: int = 2) -> None:
    """Keep glibc's allocator to `arenas` heaps, which hold on to memory for the next picture. Call before threads start.

    Decoding in several threads spreads large blocks over as many arenas as there are threads, and hands little of it
    back. Two arenas halve the resident size over thousands of pictures at no measurable cost. The thresholds keep a
    picture's buffers from being mapped and unmapped, page by page, each time (2 % of the time of a photograph). What the
    environment sets stays (mallopt(3) has the numbers and the variables), and so do other C libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, variable, value in (
        (-8, "MALLOC_ARENA_MAX", arenas),
        (-3, "MALLOC_MMAP_THRESHOLD_", 8 * MIB),
        (-1, "MALLOC_TRIM_THRESHOLD_", 16 * MIB),
    ):
        if variable not in os.environ:
            mallopt(option, value)
