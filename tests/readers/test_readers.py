"""Readers of ZIPs that were not written here, and what the documentation says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.artifacts.zips import require
from tests.readers.readers import Reader, install, outcomes, readers, table, write_archives

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "archive-readers.md"


def without_version(text: str) -> set[str]:
    """The rows of a table without their second column: what is installed here may be newer."""
    return {re.sub(r"^(\| [^|]+ \|) [^|]+ \|", r"\1", line) for line in text.splitlines() if line.startswith("| ")}


@pytest.mark.registries
def test_each_reader_does_what_the_documentation_says(tmp_path: Path) -> None:
    for program in ("unzip", "7z", "bsdtar", "unar", "lsar", "perl", "java", "node", "npm"):
        require(program)
    install(tmp_path)
    write_archives(tmp_path)
    found = table([(reader, outcomes(reader, tmp_path)) for reader in readers(tmp_path)])
    assert without_version(found) <= without_version(DOCUMENT.read_text()), found


def test_the_documentation_has_every_reader() -> None:
    text = DOCUMENT.read_text()
    for reader in readers(Path("folder")):
        assert f"| {reader.name} |" in text


def test_a_reader_that_fails_or_reads_otherwise_is_told(tmp_path: Path) -> None:
    blind = Reader("blind", "-", lambda *_: ["sh", "-c", "echo too large >&2; exit 1"], ("echo", "1.0"))
    short = Reader("short", "-", lambda *_: ["echo", "video.mov"], ("echo", "short 1.0.2"))
    assert outcomes(blind, tmp_path) == ("fails: too large",) * 3
    assert outcomes(short, tmp_path) == ("shows 12 names otherwise", "finds 1", "finds 1 of 2 files")
    assert "| short | 1.0.2 | - | a | b | c |" in table([(short, ("a", "b", "c"))])
