"""Every file that a document or a docstring names is there, under that name."""

from __future__ import annotations

import re

import pytest
from tests.structure.helpers import ROOT, floors, modules, package_names, project_files

DOCUMENTS = [path for path in project_files() if path.suffix == ".md"]

# How a path may begin: at the project's root, or inside the package.
ROOTS = ("", "src", "src/jobqueue")

# Names that stand for many files.
FORMS = {"helpers.py", "sql/NNNN_what_it_adds.sql", "sql/verb_noun.sql"}

NAMED = re.compile(r"`([\w./-]+\.(?:py|sql))`")
LINKED = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def is_there(path: str, beside: str = "") -> bool:
    """Whether there is a file of this name at one of the places where it may begin, or in the folder `beside`."""
    return path in FORMS or any((ROOT / root / path).is_file() for root in (*ROOTS, *([beside] if beside else [])))


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_files_that_a_document_names_are_there(document: object) -> None:
    path = ROOT / str(document)
    named = set(NAMED.findall(path.read_text()))

    assert sorted(name for name in named if not is_there(name, str(path.parent))) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_of_a_document_lead_somewhere(document: object) -> None:
    path = ROOT / str(document)
    links = [link for link in LINKED.findall(path.read_text()) if "://" not in link and not link.startswith("mailto:")]

    assert [link for link in links if not (path.parent / link).exists()] == []


def test_modules_that_a_docstring_or_a_comment_names_are_there() -> None:
    """By a path, or by the name alone, which is unique."""
    names = {module.path.name for module in modules().values()}
    lost = [
        f"{module.name}: {named}"
        for module in modules().values()
        for named in re.findall(r"[\w/]+\.py\b", module.path.read_text())
        if named not in names and not is_there(named)
    ]

    assert lost == []


def test_the_table_of_rooms_has_all_of_them_in_the_order_of_the_floors() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| `([\w./]+)` \|", text, flags=re.MULTILINE)
    named = ["jobqueue." + row.removesuffix("/").removesuffix(".py").replace("/", ".") for row in rows]
    alone = {name for name in modules() if name.count(".") == 1 and name != "jobqueue.__main__"}
    heights = [floor[0] for name in named if (floor := floors().of(name)) is not None]

    assert sorted(named) == sorted(alone | (set(package_names()) - {"jobqueue"}))
    assert heights == sorted(heights)
