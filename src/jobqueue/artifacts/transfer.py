"""Moves an artifact from the origin to the store: several threads read files into parts, several others send parts.

The owner's thread opens parts in order, each as soon as a buffer is free, and writes into it the ZIP's own bytes.
Readers take files in order and fill the parts that these fall into; they read long files in pieces where the origin
serves ranges. Senders send a part once it is full, and free its buffer. Parts are opened and files are taken in order,
so a waiting thread always waits for one that makes progress: no deadlock.

Memory is `window` buffers of `part_bytes`, whatever the artifact's size.

Readers check every file's CRC against the one in its header. A part is sent only after every file that ends in it has
passed. So an artifact of one part, which a single put shows to everybody, never holds a byte of a file that changed. Of a
longer file the parts before its end go out unchecked, for memory does not hold them; but the part with its end waits, and
nobody sees the object before all parts are there.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from jobqueue.artifacts.crc import combine
from jobqueue.artifacts.crew import Crew
from jobqueue.artifacts.measure import READERS
from jobqueue.artifacts.zip_layout import Literal
from jobqueue.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobqueue.artifacts.zip_layout import ZipLayout

_MIB: Final = 1024 * 1024

BUFFER_BYTES: Final = 40 * _MIB
"""Bytes of memory that one artifact takes at most: for parts in work, and for files kept from measuring."""

SMALLEST_PART: Final = 5 * _MIB
MOST_PARTS: Final = 10_000
MOST_IN_FLIGHT: Final = 8

# A file longer than this many parts is worth several connections.
_SPLIT_PARTS: Final = 2


@dataclass(frozen=True, slots=True)
class Sizing:
    """An artifact is cut into `count` parts of `part_bytes`, the last one shorter; `window` are in work at a time."""

    part_bytes: int
    count: int
    window: int

    @classmethod
    def of(cls, artifact_bytes: int, kept_bytes: int = 0) -> Sizing:
        """The smallest parts that stores take, or larger ones where there would be too many.

        Raises Permanent for an artifact that needs parts larger than BUFFER_BYTES.
        """
        part = max(SMALLEST_PART, -(-artifact_bytes // (MOST_PARTS * _MIB)) * _MIB)
        if part > BUFFER_BYTES:
            raise Permanent(
                f"the archive would be {artifact_bytes} bytes long, more than the {MOST_PARTS * BUFFER_BYTES} that can be"
                f" sent in {MOST_PARTS} parts"
            )
        window = max(1, min(MOST_IN_FLIGHT, (BUFFER_BYTES - kept_bytes) // part))
        count = max(1, -(-artifact_bytes // part))
        return cls(part, count, min(window, count))


def is_long(size: int, sizing: Sizing) -> bool:
    """Whether a file of `size` bytes is worth reading in pieces."""
    return size > _SPLIT_PARTS * sizing.part_bytes


class NotTheFile(Exception):
    """The file of entry number `entry` is there, but is not the one that was measured."""

    def __init__(self, entry: int) -> None:
        super().__init__(entry)
        self.entry = entry


class _Task(NamedTuple):
    """Bytes `start` to `end` of the file of entry number `entry`, to be read."""

    entry: int
    start: int
    end: int


class _ReadPiece(NamedTuple):
    """Bytes `start` to `end` of a file, which have been read, and their CRC-32."""

    start: int
    end: int
    crc32: int


@dataclass(slots=True, eq=False)
class _Part:
    number: int
    at: int
    size: int
    buffer: bytearray
    # Bytes that nobody has written yet, and files that end here and were not checked yet.
    empty: int
    unchecked: int


class Transfer:
    """One artifact's way from the origin to the store.

    `read(entry, start, end, sink, checkpoint)` gives bytes of an entry's file to `sink`: with `split`, long files in
    pieces. `send(number, body, checkpoint)` sends a part, numbered from 1. `on_file` is called once for each entry
    that is done, `on_sent` with the bytes of each part. Several threads call all four.
    """

    def __init__(
        self,
        layout: ZipLayout,
        sizing: Sizing,
        *,
        read: Callable[[int, int, int, Callable[[bytes], None], Callable[[], None]], None],
        send: Callable[[int, bytearray, Callable[[], None]], None],
        split: bool,
        on_file: Callable[[], None],
        on_sent: Callable[[int], None],
    ) -> None:
        self._layout = layout
        self._sizing = sizing
        self._read = read
        self._send = send
        self._split = split
        self._on_file = on_file
        self._on_sent = on_sent
        self._free: deque[bytearray] = deque()
        self._buffers = 0
        self._open: dict[int, _Part] = {}
        self._full: deque[_Part] = deque()
        self._sent = 0
        # By entry, until all of its file has been read.
        self._pieces: dict[int, list[_ReadPiece]] = {}
        # By part, the number of files whose last byte lies in it.
        self._ends = Counter(
            self._end_of(index)
            for index, entry in enumerate(layout.entries)
            if entry.content is None and entry.size > 0
        )

    def run(self, checkpoint: Callable[[], None], tick: Callable[[], None]) -> None:
        """Send every part. Raises NotTheFile and what the callables raise, once all threads have ended."""
        tasks = self._tasks()
        with Crew(checkpoint, tick) as crew:
            self._crew = crew
            crew.start("artifact-read", READERS, lambda: self._read_all(tasks))
            crew.start("artifact-send", self._sizing.window, self._send_all)
            for number in range(self._sizing.count):
                crew.watch_until(lambda: bool(self._free) or self._buffers < self._sizing.window)
                self._open_part(number)
            crew.watch_to_end()

    def _open_part(self, number: int) -> None:
        """Give a part a buffer, and write the ZIP's own bytes into it."""
        crew, sizing = self._crew, self._sizing
        at = number * sizing.part_bytes
        size = min(sizing.part_bytes, self._layout.size - at)
        with crew.changed:
            if self._free:
                buffer = self._free.popleft()
            else:
                buffer = bytearray(sizing.part_bytes)
                self._buffers += 1
        written = 0
        for piece in self._layout.pieces(at, at + size):
            if isinstance(piece, Literal):
                buffer[piece.at - at : piece.at - at + len(piece.data)] = piece.data
                written += len(piece.data)
        part = _Part(number, at, size, buffer, empty=size - written, unchecked=self._ends[number])
        with crew.changed:
            self._open[number] = part
            self._check_full(part)
            crew.changed.notify_all()

    def _end_of(self, entry: int) -> int:
        """The number of the part in which the entry's file ends."""
        return (self._layout.data_at(entry) + self._layout.entries[entry].size - 1) // self._sizing.part_bytes

    def _check_full(self, part: _Part) -> None:
        """Hand `part` to the senders when nothing is missing in it. Called with `changed` held."""
        if part.empty == 0 and part.unchecked == 0:
            del self._open[part.number]
            self._full.append(part)
            self._crew.changed.notify_all()

    # Readers

    def _tasks(self) -> Iterator[_Task]:
        """What to read, in the order of the artifact."""
        part_bytes = self._sizing.part_bytes
        for index, entry in enumerate(self._layout.entries):
            if entry.content is not None or entry.size == 0:
                self._on_file()
            elif not (self._split and is_long(entry.size, self._sizing)):
                yield _Task(index, 0, entry.size)
            else:
                at, start = self._layout.data_at(index), 0
                while start < entry.size:
                    end = min(entry.size, start + part_bytes - (at + start) % part_bytes)
                    yield _Task(index, start, end)
                    start = end

    def _read_all(self, tasks: Iterator[_Task]) -> None:
        while True:
            with self._crew.changed:
                task = next(tasks, None)
            if task is None:
                return
            self._crew.checkpoint()
            self._read_one(task)

    def _read_one(self, task: _Task) -> None:
        at = self._layout.data_at(task.entry) + task.start
        crc32 = 0

        def sink(data: bytes) -> None:
            nonlocal at, crc32
            crc32 = zlib.crc32(data, crc32)
            self._fill(at, data)
            at += len(data)

        self._read(task.entry, task.start, task.end, sink, self._crew.checkpoint)
        self._verify(task.entry, _ReadPiece(task.start, task.end, crc32))

    def _fill(self, at: int, data: bytes) -> None:
        """Copy `data` to byte `at` of the artifact and on; it may fall into two parts or more."""
        crew, view = self._crew, memoryview(data)
        while view:
            number = at // self._sizing.part_bytes
            with crew.changed:
                crew.wait_for(lambda number=number: number in self._open)  # type: ignore[misc]
                part = self._open[number]
            first = at - part.at
            count = min(len(view), part.size - first)
            part.buffer[first : first + count] = view[:count]
            with crew.changed:
                part.empty -= count
                self._check_full(part)
            at, view = at + count, view[count:]

    def _verify(self, entry: int, piece: _ReadPiece) -> None:
        """Check the CRC of the entry's file when `piece` is the last of it, and let the part go that waited for that."""
        wanted = self._layout.entries[entry]
        with self._crew.changed:
            pieces = self._pieces.setdefault(entry, [])
            pieces.append(piece)
            if sum(each.end - each.start for each in pieces) < wanted.size:
                return
            del self._pieces[entry]
        crc32 = 0
        for each in sorted(pieces):
            crc32 = combine(crc32, each.crc32, each.end - each.start)
        if crc32 != wanted.crc32:
            raise NotTheFile(entry)
        with self._crew.changed:
            # It is still open: it waited for this file.
            part = self._open[self._end_of(entry)]
            part.unchecked -= 1
            self._check_full(part)
        self._on_file()

    # Senders

    def _send_all(self) -> None:
        crew, sizing = self._crew, self._sizing
        while True:
            with crew.changed:
                crew.wait_for(lambda: bool(self._full) or self._sent == sizing.count)
                if self._sent == sizing.count:
                    return
                part = self._full.popleft()
            crew.checkpoint()
            body = part.buffer
            if part.size < len(body):
                del body[part.size :]
            self._send(part.number + 1, body, crew.checkpoint)
            self._on_sent(part.size)
            with crew.changed:
                self._sent += 1
                self._free.append(part.buffer)
                crew.changed.notify_all()
