"""Webhooks in the hands of published libraries, and what the documentation says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.artifacts.zips import require
from tests.receivers.receivers import FORMS, LIBRARIES, REFUSES, install, outcome, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "webhook-receivers.md"


@pytest.mark.registries
def test_published_libraries_verify_what_the_documentation_says(tmp_path: Path) -> None:
    require("node")
    require("npm")
    install(tmp_path)
    found = table([(it, [outcome(it, form, tmp_path) for form in FORMS]) for it in LIBRARIES])
    assert found in DOCUMENT.read_text()
    # They look at all: what was changed on its way is refused.
    assert {outcome(it, FORMS[0], tmp_path, forged=True) for it in LIBRARIES} == {REFUSES}


def test_the_documentation_has_every_library() -> None:
    text = DOCUMENT.read_text()
    for library in LIBRARIES:
        assert f"| {library.name} | {library.version} | {library.source} |" in text
