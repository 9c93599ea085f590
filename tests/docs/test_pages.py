"""Every code block of these pages does what the page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.docs.page import Block, Reader, blocks
from tests.structure.helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from jobqueue.demo.embedded_postgres import Postgres


def test_the_program_of_the_readme_is_that_of_the_tutorial() -> None:
    [shown] = [block for block in blocks("README.md") if block.language == "python"]
    assert shown.text in [block.text for block in blocks("docs/tutorial.md")]


def test_enqueue(reader: Reader, database: str) -> None:
    reader.read("docs/how-to/enqueue.md")

    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT kind, unique_key, run_after > now() FROM jobs ORDER BY id").fetchall()
    assert found == [("report", None, False), ("report", "report 2026-01", False), ("reminder", None, True)]


@pytest.mark.extended
def test_tutorial(postgres: Postgres, tmp_path: Path) -> None:
    """From an empty database."""
    reader = Reader(tmp_path, postgres.create_database("tutorial"))

    reader.read("docs/tutorial.md")

    assert reader.printed.splitlines() == ["Ada completed True", "Grace completed True", "Nobody failed False"]
    with psycopg.connect(reader.dsn) as connection:
        found = connection.execute("SELECT status FROM invoices UNION ALL SELECT status FROM jobs").fetchall()
    assert found == [("completed",)] * 4


@pytest.mark.extended
def test_testing(reader: Reader) -> None:
    reader.read("docs/how-to/testing.md")


@pytest.mark.parametrize(("page", "host"), [("django", "django_host"), ("fastapi", "fastapi_host")])
def test_pieces_of_an_example_are_in_it(page: str, host: str) -> None:
    """The tests of the examples run them."""
    pieces = [block for block in blocks(f"docs/how-to/{page}.md") if block.language == "python"]

    for piece in pieces:
        assert piece.file is not None
        wanted = piece.text.partition("\n")[2]
        assert wanted in (ROOT / "examples" / host / piece.file).read_text(), piece


# How pages are read


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


def test_a_block_has_its_language_its_place_and_its_file(page: Path) -> None:
    page.write_text("text\n\n```python\n# a/b.py\nx = 1\n```\n\n```\nplain\n```\n")

    named, plain = blocks(str(page))

    assert named == Block("python", "# a/b.py\nx = 1\n", 3)
    assert (named.file, plain.file, plain.line) == ("a/b.py", None, 8)


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("```python\nraise ValueError('no')\n```", "ValueError: no"),
        ("```console\n$ false\n```", "line 1: false ends with 1"),
        ("```console\n$ echo one two\none three\n```", "'one three' was not printed:\none two"),
        ("```\nplain\n```", "nobody knows how to try a block of no language"),
    ],
)
def test_a_page_that_is_wrong_is_told(reader: Reader, page: Path, block: str, says: str) -> None:
    page.write_text(block)

    with pytest.raises(AssertionError) as raised:
        reader.read(str(page))
    assert says in str(raised.value)


def test_what_is_shown_may_leave_something_out_and_a_command_may_go_on(reader: Reader, page: Path) -> None:
    page.write_text("```console\n$ pip install nothing-like-it\n$ printf '%s\\n' \\\n    'a  1 b' c\na … b\nc\n```\n")

    reader.read(str(page))
