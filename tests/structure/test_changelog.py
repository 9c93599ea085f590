"""The changelog tells of each name that changed in this version, beside the name that it had."""

from __future__ import annotations

import re

import pytest
from tests.structure.helpers import ROOT

from jobqueue.observe import former_names

RENAMED = {
    **former_names.EVENTS,
    **former_names.LOOPS,
    **{f"{new}_total": f"{old}_total" for new, old in former_names.METRICS.items()},
}


@pytest.mark.parametrize("new", RENAMED)
def test_a_new_name_stands_beside_its_former_one(new: str) -> None:
    unreleased = (ROOT / "CHANGELOG.md").read_text().split("\n## [")[1]

    assert re.search(rf"^\| `{RENAMED[new]}` \| `{new}`", unreleased, flags=re.MULTILINE)
