"""The engine between origin and store, with neither: what it holds, how it is cut, how it ends."""

from __future__ import annotations

import threading
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.artifacts.helpers import MIB, noise
from tests.artifacts.zips import assembled
from tests.support.waiting import eventually

from jobqueue.artifacts.transfer import BUFFER_BYTES, MOST_PARTS, NotTheFile, Sizing, Transfer
from jobqueue.artifacts.zip_layout import DosTime, ZipEntry, ZipLayout
from jobqueue.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WHEN = DosTime(33, 0)


class Ends:
    """An origin in memory and a store in memory, which notes how many parts exist at once."""

    def __init__(self, contents: Sequence[bytes]) -> None:
        self.contents = contents
        self.parts: dict[int, bytes] = {}
        self.reads: list[tuple[int, int, int]] = []
        self._lock = threading.Lock()

    def layout(self, inline: Sequence[int] = ()) -> ZipLayout:
        return ZipLayout(
            [
                ZipEntry(f"{n}.bin", len(data), zlib.crc32(data), WHEN, data if n in inline else None)
                for n, data in enumerate(self.contents)
            ]
        )

    def read(
        self, entry: int, start: int, end: int, sink: Callable[[bytes], None], _checkpoint: Callable[[], None]
    ) -> None:
        with self._lock:
            self.reads.append((entry, start, end))
        for at in range(start, end, 700):
            sink(self.contents[entry][at : min(at + 700, end)])

    def send(self, number: int, body: bytearray, _checkpoint: Callable[[], None]) -> None:
        with self._lock:
            assert number not in self.parts
            self.parts[number] = bytes(body)

    def run(self, layout: ZipLayout, sizing: Sizing, *, split: bool = True) -> list[int]:
        """Transfer; returns the sizes that were told to be sent."""
        sent: list[int] = []
        self.files = 0

        def on_file() -> None:
            self.files += 1

        Transfer(
            layout, sizing, read=self.read, send=self.send, split=split, on_file=on_file, on_sent=sent.append
        ).run(lambda: None, lambda: None)  # fmt: skip
        return sent

    def sent(self) -> bytes:
        return b"".join(self.parts[number] for number in sorted(self.parts))


def whole(ends: Ends) -> bytes:
    return assembled(ends.layout(range(len(ends.contents))))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 5000), max_size=20), st.integers(40, 3000), st.integers(1, 8), st.booleans(), st.randoms()
)
def test_parts_are_the_artifact_whatever_its_files_and_cut(
    sizes: list[int], part: int, window: int, split: bool, random: object
) -> None:
    ends = Ends([noise(n, size) for n, size in enumerate(sizes)])
    inline = [n for n in range(len(sizes)) if random.random() < 0.3]  # type: ignore[attr-defined]
    layout = ends.layout(inline)
    sizing = Sizing(part, max(1, -(-layout.size // part)), window)
    sent = ends.run(layout, sizing, split=split)
    assert ends.sent() == whole(ends)
    assert [len(ends.parts[number]) for number in sorted(ends.parts)][:-1] == [part] * (sizing.count - 1)
    assert sum(sent) == layout.size
    assert ends.files == len(sizes)


def test_long_files_are_read_in_pieces_only_where_that_is_possible() -> None:
    ends = Ends([noise(1, 10_000), noise(2, 100)])
    sizing = Sizing(1000, -(-ends.layout().size // 1000), 4)
    ends.run(ends.layout(), sizing)
    assert len([read for read in ends.reads if read[0] == 0]) == 11
    ends.parts.clear()
    ends.reads.clear()
    ends.run(ends.layout(), sizing, split=False)
    assert sorted(ends.reads) == [(0, 0, 10_000), (1, 0, 100)]
    assert ends.sent() == whole(ends)


def test_no_more_is_read_than_there_are_buffers_for() -> None:
    ends = Ends([noise(n, 1500) for n in range(40)])
    layout, part, window = ends.layout(), 1000, 3
    let = threading.Event()
    read = 0

    def send(number: int, body: bytearray, _checkpoint: Callable[[], None]) -> None:
        let.wait(20)
        ends.send(number, body, _checkpoint)

    def tick() -> None:
        """Look, and let go, once all senders have something to send and the readers cannot go on."""
        nonlocal read
        held = sum(end - start for _, start, end in ends.reads)
        if held == read and held:
            let.set()
        read = max(read, 0 if let.is_set() else held)

    Transfer(
        layout, Sizing(part, -(-layout.size // part), window), read=ends.read, send=send, split=False,
        on_file=lambda: None, on_sent=lambda _size: None,
    ).run(lambda: None, tick)  # fmt: skip
    assert ends.sent() == whole(ends)
    # What three parts take in, and the files that five readers have begun and cannot put anywhere.
    assert read <= window * part + 5 * 1500


@pytest.mark.parametrize("split", [True, False])
def test_other_bytes_than_were_measured_are_found_out(split: bool) -> None:
    ends = Ends([noise(1, 500), noise(2, 10_000)])
    layout = ends.layout()
    ends.contents = [ends.contents[0], noise(3, 10_000)]
    with pytest.raises(NotTheFile) as found:
        ends.run(layout, Sizing(1000, 11, 4), split=split)
    assert found.value.entry == 1


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("split", [True, False])
def test_no_part_is_sent_in_which_a_file_ends_that_is_not_what_was_measured(parts: int, split: bool) -> None:
    """The last read comes back late, so that only the check of the file can hold its part."""
    ends = Ends([noise(1, 500), noise(2, 10_000)])
    layout = ends.layout()
    ends.contents = [ends.contents[0], ends.contents[1][:-1] + bytes([ends.contents[1][-1] ^ 1])]
    sizing = Sizing(-(-layout.size // parts), parts, parts)
    senders_idle = threading.Event()

    def read(entry: int, start: int, end: int, sink: Callable[[bytes], None], checkpoint: Callable[[], None]) -> None:
        ends.read(entry, start, end, sink, checkpoint)
        if entry == 1 and end == 10_000:
            senders_idle.wait(20)

    ticks = 0

    def tick() -> None:
        """Two looks while nothing but that read is under way: a sender that could send has sent."""
        nonlocal ticks
        ticks += 1
        if ticks == 3:
            senders_idle.set()

    with pytest.raises(NotTheFile):
        Transfer(
            layout, sizing, read=read, send=ends.send, split=split, on_file=lambda: None, on_sent=lambda _size: None
        ).run(lambda: None, tick)  # fmt: skip
    assert parts not in ends.parts


def test_the_first_error_ends_everything() -> None:
    ends = Ends([noise(n, 3000) for n in range(30)])
    layout = ends.layout()
    before = threading.active_count()

    def broken(number: int, _body: bytearray, checkpoint: Callable[[], None]) -> None:
        if number == 7:
            raise Permanent("no")
        if number > 7:
            # Its checkpoint raises once all is over: nothing that comes later is sent before.
            eventually(checkpoint)

    with pytest.raises(Permanent, match="no"):
        Transfer(
            layout, Sizing(1000, -(-layout.size // 1000), 3), read=ends.read, send=broken, split=True,
            on_file=lambda: None, on_sent=lambda _size: None,
        ).run(lambda: None, lambda: None)  # fmt: skip
    assert threading.active_count() == before
    # Of 91 parts: those up to the seventh and the window of three, each of two or three pieces.
    assert len(ends.reads) <= 10 * 3


def test_a_tick_that_raises_ends_everything() -> None:
    ends = Ends([noise(1, 3000)])
    forever = threading.Event()

    def tick() -> None:
        forever.set()
        raise Permanent("interrupted")

    def stuck(_number: int, _body: bytearray, _checkpoint: Callable[[], None]) -> None:
        forever.wait(20)

    with pytest.raises(Permanent, match="interrupted"):
        Transfer(
            ends.layout(), Sizing(5000, 1, 1), read=ends.read, send=stuck, split=True,
            on_file=lambda: None, on_sent=lambda _size: None,
        ).run(lambda: None, tick)  # fmt: skip


@pytest.mark.parametrize(
    ("size", "kept", "part_mib", "count", "window"),
    [
        (1, 0, 5, 1, 1),
        (5 * MIB, 0, 5, 1, 1),
        (5 * MIB + 1, 0, 5, 2, 2),
        (1024 * MIB, 0, 5, 205, 8),
        (100 * MIB, 24 * MIB, 5, 20, 3),
        (48 * 1024 * MIB, 0, 5, 9831, 8),
        (60 * 1024 * MIB, 0, 7, 8778, 5),
        (390 * 1024 * MIB, 0, 40, 9984, 1),
    ],
)
def test_parts_grow_only_where_there_would_be_too_many(
    size: int, kept: int, part_mib: int, count: int, window: int
) -> None:
    sizing = Sizing.of(size, kept)
    assert sizing == Sizing(part_mib * MIB, count, window)
    assert sizing.count <= MOST_PARTS
    assert sizing.part_bytes * sizing.window + kept <= BUFFER_BYTES or window == 1


def test_what_cannot_be_sent_within_the_memory_is_refused() -> None:
    with pytest.raises(Permanent, match=r"429496729600 bytes long, more than the 419430400000"):
        Sizing.of(400 * 1024 * MIB)
