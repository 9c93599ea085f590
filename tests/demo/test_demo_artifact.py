"""What the demo's verification of an artifact finds."""

from __future__ import annotations

import uuid
import zipfile
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from jobqueue.demo.demo_artifact import WrongArtifact, verify
from jobqueue.demo.demo_host import ArtifactRow
from jobqueue.demo.demo_sources import DemoSource

if TYPE_CHECKING:
    from pathlib import Path

CONTENTS = {"a.jpg": b"first" * 1000, "b.jpg": b"second" * 1000}
MISSING = b"1 of 3 files could not be included in this archive:\r\n\r\ngone.jpg\r\n"


class Case:
    """A project of two files and an absent one, and its artifact, to be falsified."""

    def __init__(self, folder: Path) -> None:
        self.media: dict[uuid.UUID, DemoSource | None] = {}
        self.manifest: dict[str, Any] = {"files": [], "missing": []}
        self.entries = {**CONTENTS, "MISSING.txt": MISSING}
        self.file_count = len(CONTENTS)
        for name, content in CONTENTS.items():
            (folder / name).write_bytes(content)
            media_id = self.add(DemoSource(name, folder / name, "JPEG"))
            item = {"name": name, "size_bytes": len(content), "crc32": f"{zlib.crc32(content):08x}"}
            self.manifest["files"].append({"media_id": media_id, **item})
        self.manifest["missing"].append({"media_id": self.add(None), "name": "gone.jpg", "reason": "404"})

    def add(self, source: DemoSource | None) -> str:
        media_id = uuid.uuid4()
        self.media[media_id] = source
        return str(media_id)

    def artifact(self) -> bytes:
        file = BytesIO()
        with zipfile.ZipFile(file, "w") as zipped:
            for name, content in self.entries.items():
                zipped.writestr(name, content)
        return file.getvalue()

    def verify(self, data: bytes | None = None) -> None:
        file = BytesIO(self.artifact() if data is None else data)
        progress = (None, 3, 3, len(file.getvalue()), len(file.getvalue()))
        row = ArtifactRow(
            "READY", None, *progress, "http://cdn/a.zip", "a.zip", progress[3], self.file_count, self.manifest
        )
        verify(file, row, self.manifest, self.media)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_whole_artifact_is_verified(case: Case) -> None:
    case.verify()
    del case.entries["MISSING.txt"]
    [gone] = case.manifest["missing"]
    del case.media[uuid.UUID(gone["media_id"])]
    case.manifest["missing"] = []
    case.verify()


def test_a_damaged_entry_is_found(case: Case) -> None:
    with pytest.raises(WrongArtifact, match=r"the CRC of b\.jpg does not match"):
        case.verify(case.artifact().replace(b"secondsecond", b"secondsecund", 1))


def test_an_artifact_cut_short_is_found(case: Case) -> None:
    with pytest.raises(zipfile.BadZipFile):
        case.verify(case.artifact()[:-30])


@pytest.mark.parametrize("name", ["b.jpg", "MISSING.txt"])
def test_an_entry_that_is_not_there_is_found(case: Case, name: str) -> None:
    del case.entries[name]
    with pytest.raises(WrongArtifact, match="its entries are"):
        case.verify()


def test_a_manifest_that_says_something_else_is_found(case: Case) -> None:
    case.manifest["files"][1]["crc32"] = "00000000"
    with pytest.raises(WrongArtifact, match=r"b\.jpg has another size or CRC"):
        case.verify()


def test_a_file_left_out_without_a_word_is_found(case: Case) -> None:
    case.add(None)
    with pytest.raises(WrongArtifact, match="its row counts 2 files, its manifest 2, its project 4"):
        case.verify()


def test_a_row_that_counts_wrongly_is_found(case: Case) -> None:
    case.file_count = 3
    with pytest.raises(WrongArtifact, match="its row counts 3 files"):
        case.verify()


def test_a_missing_file_that_the_customer_is_not_told_of_is_found(case: Case) -> None:
    case.entries["MISSING.txt"] = MISSING.replace(b"gone", b"other")
    with pytest.raises(WrongArtifact, match=r"MISSING\.txt names \['other\.jpg'\]"):
        case.verify()


def test_another_file_than_the_original_is_found(case: Case, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"another" * 1000)
    with pytest.raises(WrongArtifact, match=r"b\.jpg is not the original"):
        case.verify()
