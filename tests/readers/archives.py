"""The archives that every reader is given: our layout's own bytes."""

from __future__ import annotations

import unicodedata
import zlib
from typing import TYPE_CHECKING, Final

from tests.artifacts.test_zip_layout import GIB, NOON, entry, write, zeros_crc

from jobqueue.artifacts.entry_names import Names, entry_name
from jobqueue.artifacts.zip_layout import ZipEntry, ZipLayout

if TYPE_CHECKING:
    from pathlib import Path

MANY: Final = 70_000

# What hosts give: every script, both ways to write an accent, twins in case and form, and what Windows does not take.
_GIVEN: Final = (
    "Fête d'été.jpg",
    unicodedata.normalize("NFD", "Fête d'été.jpg"),
    "FÊTE D'ÉTÉ.JPG",
    "Лот 17.jpg",
    "拍賣 17.jpg",
    "مزاد.jpg",
    "𝄞🎉.png",
    "aux.jpg",
    'a:b*c?"d".jpg',
    "ends with a dot.",
    "100% & more #1.jpg",
    "x" * 300 + ".jpg",
)


def names() -> dict[str, bytes]:
    """Entries by name, as an artifact gives them their names."""
    taken = Names()
    return {taken.unique(entry_name(name, "lots/17/a.jpg")): name.encode() for name in _GIVEN}


def write_names(path: Path) -> None:
    """An archive of files with names of every kind."""
    with path.open("wb") as file:
        write(ZipLayout([entry(name, data) for name, data in names().items()]), file)


def write_many(path: Path) -> None:
    """More files than a ZIP without Zip64 can count."""
    with path.open("wb") as file:
        write(ZipLayout([entry(f"{number:05}.txt", b"%d" % number) for number in range(MANY)]), file)


def write_long(path: Path) -> None:
    """A file of 5 GiB, which is a hole on the disk, and one behind it."""
    size = 5 * GIB + 17
    long = ZipEntry("video.mov", size, zeros_crc(size), NOON)
    with path.open("wb") as file:
        write(ZipLayout([long, ZipEntry("behind.txt", 10, zlib.crc32(b"still here"), NOON, b"still here")]), file)
