"""Cron expressions in other hands, and what the documentation says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.artifacts.zips import require
from tests.crons.crons import EXPRESSIONS, LIBRARIES, install, ours, rows, theirs

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "cron.md"


@pytest.mark.registries
def test_published_libraries_differ_as_the_documentation_says(tmp_path: Path) -> None:
    require("node")
    require("npm")
    install(tmp_path)
    assert rows([(library, theirs(library, tmp_path)) for library in LIBRARIES]) in DOCUMENT.read_text()


def test_the_documentation_has_our_own_ticks() -> None:
    """The first three columns, which need no library."""
    text = DOCUMENT.read_text()
    same = rows([])
    for line in same.splitlines()[2:]:
        assert line.rstrip("| ") in text
    assert sum(ours(expression, zone, after) is None for expression, zone, after, _ in EXPRESSIONS) == 3
