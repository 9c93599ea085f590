"""What no file of the project holds: notes of work that is not done, and the address of a registry."""

from __future__ import annotations

import re

import pytest
from tests.structure.helpers import ROOT, project_files

# Each word is put together here, so that this file does not hold it itself.
NOTES = re.compile(rf"\b(TO{'DO'}|FIX{'ME'}|XX{'X'}|HA{'CK'})\b")
REGISTRIES = re.compile(
    rf"py{'pi'}\.org|python{'hosted'}\.org|npm{'js'}\.org|yarn{'pkg'}\.com|index{'-url'}|arti{'factory'}|code{'artifact'}|dev{'pi'}|nex{'us'}\.",
    re.IGNORECASE,
)


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """The lines of the project's text files in which the pattern occurs, each with its place."""
    found = []
    for path in project_files():
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path}:{number}: {line.strip()[:120]}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    return found


@pytest.mark.parametrize("pattern", [NOTES, REGISTRIES], ids=["notes", "registries"])
def test_no_file_holds(pattern: re.Pattern[str]) -> None:
    assert lines_with(pattern) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [(NOTES, "# TO" + "DO: later"), (REGISTRIES, "https://files.python" + "hosted.org/packages")],
    ids=["notes", "registries"],
)
def test_one_that_does_would_be_seen(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)


def test_requirements_hold_no_address() -> None:
    """They install from whatever registry pip is configured for."""
    assert [
        str(path) for path in project_files() if path.parts[0] == "requirements" and "://" in (ROOT / path).read_text()
    ] == []
