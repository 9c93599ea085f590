"""The reference says what the docstrings say, of everything that a host may import."""

from __future__ import annotations

from tests.docs.api_reference import CHAPTERS, PAGE, written

import jobqueue


def test_the_page_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text() == written(), "make reference"


def test_it_has_every_name() -> None:
    named = {name for names in CHAPTERS.values() for name in names}
    assert named == set(jobqueue.__all__) - {"__version__", "testing"}
