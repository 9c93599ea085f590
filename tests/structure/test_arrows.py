"""Imports run down the floors of .importlinter, and never in a circle."""

from __future__ import annotations

from tests.structure.helpers import Floors, arrows, floors, forbidden_arrows, modules


def test_every_module_has_a_floor() -> None:
    homeless = [name for name in modules() if name != "jobqueue" and floors().of(name) is None]

    assert homeless == []


def test_no_arrow_runs_up_or_across() -> None:
    assert forbidden_arrows(arrows(), floors()) == []


def test_an_arrow_that_runs_up_or_across_is_seen() -> None:
    order = Floors((("top",), ("left", "right"), ("ground",)))
    drawn = {
        "top": frozenset({"left.room", "ground"}),
        "left.room": frozenset({"left", "ground", "right"}),
        "ground": frozenset({"top"}),
    }

    assert forbidden_arrows(drawn, order) == ["ground runs up to top", "left.room runs across to right"]


def test_imports_within_functions_and_for_types_are_arrows_too() -> None:
    drawn = arrows()

    assert "jobqueue.kernel.worker" not in drawn["jobqueue.cli.main"]
    assert "jobqueue.daemon" in drawn["jobqueue.cli.worker"]
    assert "jobqueue.kernel.meter" in drawn["jobqueue.kernel.loop"]


def test_the_layers_are_those_that_import_linter_reads() -> None:
    names = [room for floor in floors().floors for room in floor]

    assert len(names) == len(set(names))
    assert set(names) <= set(modules())
    assert floors().of("jobqueue.kernel.claiming.claimer") == floors().of("jobqueue.kernel")
