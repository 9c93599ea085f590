"""The index of decisions has every record, under its number, and says of a number without one that it has none."""

from __future__ import annotations

import re

from tests.structure.helpers import ROOT

FOLDER = ROOT / "docs/decisions"


def test_the_index_has_every_record() -> None:
    index = (FOLDER / "README.md").read_text()
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index)

    assert listed == sorted(path.name for path in FOLDER.glob("0*.md"))


def test_no_number_is_left_out_and_each_record_begins_with_its_own() -> None:
    index = (FOLDER / "README.md").read_text()
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", index, flags=re.MULTILINE)]

    assert numbers == list(range(1, len(numbers) + 1))
    for path in FOLDER.glob("0*.md"):
        assert path.read_text().startswith(f"# {int(path.name[:4])}. ")
