"""No circle of any size: not between modules, and not between packages at any depth, but for what .importlinter names."""

from __future__ import annotations

import pytest
from tests.structure.helpers import arrows, circles, package_names, packages, passed_over, without


def test_no_circle_between_modules() -> None:
    """Without any exception."""
    assert circles(arrows()) == []


@pytest.mark.parametrize("parent", package_names())
def test_no_circle_between_what_stands_in_a_package(parent: str) -> None:
    assert circles(packages(without(arrows(), passed_over()), parent)) == []


def test_a_circle_of_any_size_is_seen() -> None:
    drawn = {
        "a": frozenset({"b"}),
        "b": frozenset({"c"}),
        "c": frozenset({"a", "d"}),
        "d": frozenset({"e"}),
        "e": frozenset({"d"}),
        "f": frozenset({"a"}),
    }

    assert circles(drawn) == [["a", "b", "c"], ["d", "e"]]


def test_a_circle_between_packages_is_seen_though_no_module_is_in_one() -> None:
    drawn = {"p.one.a": frozenset({"p.two.b"}), "p.two.c": frozenset({"p.one.d"})}

    assert circles(drawn) == []
    assert circles(packages(drawn, "p")) == [["p.one", "p.two"]]
