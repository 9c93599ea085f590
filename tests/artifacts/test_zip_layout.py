"""The layout, read by four programs that were not written here."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import zipfile
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.artifacts.zips import EACH_READER, assembled, check_with, require

from jobqueue.artifacts.crc import combine
from jobqueue.artifacts.zip_layout import Literal, Span, ZipEntry, ZipLayout, dos_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GIB = 1024**3
NOON = dos_time(datetime(2024, 5, 17, 12, 30, 42))  # noqa: DTZ001 - a ZIP's times have no zone


def zeros_crc(size: int) -> int:
    """The CRC-32 of so many zero bytes."""
    block = zlib.crc32(bytes(1 << 20))
    crc = 0
    for _ in range(size >> 20):
        crc = combine(crc, block, 1 << 20)
    rest = size & ((1 << 20) - 1)
    return combine(crc, zlib.crc32(bytes(rest)), rest)


def entry(name: str, data: bytes) -> ZipEntry:
    return ZipEntry(name, len(data), zlib.crc32(data), NOON, data)


def write(
    layout: ZipLayout, file: BinaryIO, fill: Callable[[Span], None] = lambda _span: None, part: int = 1 << 24
) -> None:
    """Write the ZIP in parts, in a random order; what `fill` leaves out are zeros that take no room on the disk."""
    starts = list(range(0, layout.size, part))
    random.shuffle(starts)
    for start in starts:
        for piece in layout.pieces(start, min(start + part, layout.size)):
            if isinstance(piece, Literal):
                file.seek(piece.at)
                file.write(piece.data)
            else:
                fill(piece)
    file.truncate(layout.size)


@pytest.mark.parametrize("program", EACH_READER)
def test_another_program_reads_names_and_bytes(program: str, tmp_path: Path) -> None:
    files = {"Fête d'été.jpg": b"x" * 1000, "空.txt": b"", "a (2).bin": os.urandom(70_000), "ﬀ🎉.png": b"\0"}
    made = tmp_path / "made.zip"
    made.write_bytes(assembled(ZipLayout([entry(name, data) for name, data in files.items()])))
    check_with(program, made)


def test_zipfile_reads_what_was_put_in() -> None:
    import io

    files = {"Fête.jpg": b"x" * 1000, "leer.txt": b"", "b.bin": os.urandom(5000)}
    layout = ZipLayout([entry(name, data) for name, data in files.items()])
    with zipfile.ZipFile(io.BytesIO(assembled(layout))) as made:
        assert made.testzip() is None
        assert {info.filename: made.read(info) for info in made.infolist()} == files
        for info in made.infolist():
            assert info.date_time == (2024, 5, 17, 12, 30, 42)
            assert info.external_attr >> 16 == 0o100644
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.extra == b""


def test_local_headers_are_complete_and_nothing_follows_the_data() -> None:
    data = os.urandom(300)
    layout = ZipLayout([entry("one.jpg", data)])
    made = assembled(layout)
    signature, version, flags, method, _, _, crc, packed, size, name, extra = struct.unpack_from("<4s5H3L2H", made)
    assert (signature, version, method, name, extra) == (b"PK\x03\x04", 10, 0, 7, 0)
    assert flags == 1 << 11  # UTF-8, and not bit 3: no data descriptor
    assert (crc, packed, size) == (zlib.crc32(data), 300, 300)
    assert made[30 + 7 + 300 :].startswith(b"PK\x01\x02")
    assert b"PK\x06\x06" not in made
    assert len(made) == layout.size


@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=12),
    st.integers(1, 200),
)
def test_any_cut_into_parts_gives_the_same_bytes(sizes: list[tuple[int, bool]], part: int) -> None:
    contents = [os.urandom(size) for size, _ in sizes]
    entries = [
        ZipEntry(f"{n}.bin", len(data), zlib.crc32(data), NOON, data if sizes[n][1] else None)
        for n, data in enumerate(contents)
    ]
    layout = ZipLayout(entries)
    whole = bytearray(layout.size)
    at = 0
    for start in range(0, layout.size, part):
        for piece in layout.pieces(start, min(start + part, layout.size)):
            assert piece.at == at, "pieces come in order, without gaps"
            data = piece.data if isinstance(piece, Literal) else contents[piece.entry][piece.start : piece.end]
            assert data
            whole[at : at + len(data)] = data
            at += len(data)
    assert at == layout.size
    assert bytes(whole) == assembled(ZipLayout([entry(f"{n}.bin", data) for n, data in enumerate(contents)]))


# How each takes one file out of a ZIP, which it can do without reading the rest.
TAKE_OUT = {
    "unzip": ["unzip", "-p"],
    "7z": ["7z", "x", "-so"],
    "bsdtar": ["bsdtar", "-xOf"],
}


def write_long(path: Path) -> int:
    """A ZIP with a file of 5 GiB and one behind it, most of it a hole in the file; returns the long one's size."""
    size = 5 * GIB + 17
    with path.open("wb") as file:
        write(ZipLayout([ZipEntry("video.mov", size, zeros_crc(size), NOON), entry("behind.txt", b"still here")]), file)
    return size


@pytest.mark.parametrize("program", ["zipfile", *EACH_READER])
def test_a_file_of_5_gib_and_one_behind_it(program: str, tmp_path: Path) -> None:
    path = tmp_path / "long.zip"
    size = write_long(path)
    if program == "zipfile":
        with zipfile.ZipFile(path) as made:
            assert made.getinfo("video.mov").file_size == size
            assert made.getinfo("behind.txt").header_offset > 4 * GIB
            assert made.read("behind.txt") == b"still here"
        return
    require(program)
    done = subprocess.run([*TAKE_OUT[program], str(path), "behind.txt"], capture_output=True, check=True)
    assert done.stdout == b"still here"


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize("program", EACH_READER)
def test_all_of_a_file_of_5_gib(program: str, tmp_path: Path) -> None:
    path = tmp_path / "long.zip"
    write_long(path)
    check_with(program, path)


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize("program", ["zipfile", *EACH_READER])
def test_70_000_files(program: str, tmp_path: Path) -> None:
    layout = ZipLayout([entry(f"{n:05}.txt", b"%d" % n) for n in range(70_000)])
    path = tmp_path / "many.zip"
    with path.open("wb") as file:
        write(layout, file)
    if program == "zipfile":
        with zipfile.ZipFile(path) as made:
            assert len(made.namelist()) == 70_000
            assert made.testzip() is None
            assert made.read("69999.txt") == b"69999"
    else:
        check_with(program, path)


@pytest.mark.parametrize(
    ("count", "size", "wanted"),
    [
        (3, 10, set()),
        (65_534, 0, set()),
        (65_535, 0, {"end"}),
        (2, 0xFFFFFFFE // 2 - 100, set()),
        (2, 0xFFFFFFFE, {"end", "second offset"}),
        (1, 0xFFFFFFFF, {"end", "local"}),
    ],
)
def test_zip64_stands_only_where_a_value_does_not_fit(count: int, size: int, wanted: set[str]) -> None:
    layout = ZipLayout([ZipEntry(f"{n:05}", size, 0, NOON) for n in range(count)])
    found = set()
    first = next(piece for piece in layout.pieces(0, 100) if isinstance(piece, Literal))
    if len(first.data) != 30 + 5:
        found.add("local")
    tail = b"".join(
        piece.data for piece in layout.pieces(max(0, layout.size - 400), layout.size) if isinstance(piece, Literal)
    )
    if b"PK\x06\x06" in tail:
        found.add("end")
    last = tail.rindex(b"PK\x01\x02")
    if struct.unpack_from("<H", tail, last + 30)[0] and size < 0xFFFFFFFF:
        found.add("second offset")
    assert found == wanted


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (None, (1980, 1, 1, 0, 0, 0)),
        (datetime(1970, 1, 1), (1980, 1, 1, 0, 0, 0)),  # noqa: DTZ001
        (datetime(2000, 2, 29, 23, 59, 59), (2000, 2, 29, 23, 59, 58)),  # noqa: DTZ001
        (datetime(2300, 1, 1), (2107, 12, 31, 23, 59, 58)),  # noqa: DTZ001
    ],
)
def test_times_fit_into_a_zip(moment: datetime | None, expected: tuple[int, ...]) -> None:
    date, time = dos_time(moment)
    read = (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, 2 * (time & 31))
    assert read == expected


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_crc_of_pieces(first: bytes, second: bytes) -> None:
    assert combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)
