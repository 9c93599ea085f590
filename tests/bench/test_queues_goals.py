"""What the queue benchmark concludes from its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bench.queues.goals import judge, kept
from bench.queues.limit import BARE, JOBS
from bench.queues.rounds import median

if TYPE_CHECKING:
    from bench.queues.rounds import Figures

OURS: dict[str, Figures] = {
    "drain": {"rate": 40_000.0, "handled": 40_000.0},
    "pickup": {"p50": 1.0, "p99": 4.0},
    "history": {"handled": 36_000.0},
    "delayed": {"handled": 36_000.0},
    "pending": {"handled": 36_000.0},
    "pinned": {"kept": 0.9},
    "recovery": {"seconds": 20.0, "before": 30_000.0, "after": 30_000.0},
}
PEERS: dict[str, dict[str, Figures]] = {
    "graphile-worker": {
        "drain": {"rate": 39_000.0},
        "pickup": {"p50": 1.1, "p99": 6.0},
        "recovery": {"seconds": None, "before": 1.0, "after": None},
    },
    "pgqueuer": {
        "drain": {"rate": 20_000.0},
        "pickup": {"p50": 2.0, "p99": 4.0},
        "recovery": {"seconds": 30.0, "before": 1.0, "after": 1.0},
    },
    BARE: {"drain": {"rate": 80_000.0}},
    JOBS: {"drain": {"rate": 80_000.0}},
}


def missed(**changes: Figures) -> list[str]:
    goals = judge({"jobqueue": {**OURS, **changes}, **PEERS}, {"pgqueuer"})
    assert len(goals) == 12
    return [goal.text for goal in goals if not goal.reached]


def test_figures_at_their_bounds_reach_every_goal() -> None:
    assert missed() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"drain": {"rate": 39_000.0, "handled": 39_000.0}},
            ["ahead of every peer", "Python", "jobs table", "bare table"],
        ),
        ({"pickup": {"p50": 1.2, "p99": 4.0}}, ["p50"]),
        ({"pickup": {"p50": 1.0, "p99": 4.1}}, ["p99"]),
        ({"history": {"handled": 31_000.0}}, ["finished rows"]),
        ({"delayed": {"handled": 31_000.0}}, ["not due"]),
        ({"pending": {"handled": 31_000.0}}, ["waiting jobs"]),
        ({"pinned": {"kept": 0.79}}, ["pinned"]),
        ({"recovery": {"seconds": 30.0, "before": 30_000.0, "after": 28_000.0}}, ["sooner", "rate after"]),
        ({"recovery": {"seconds": None, "before": 30_000.0, "after": None}}, ["sooner", "has run again"]),
    ],
)
def test_a_figure_past_its_bound_misses_its_goal(changes: dict[str, Figures], words: list[str]) -> None:
    texts = missed(**changes)
    assert len(texts) == len(words)
    assert all(word in text for word, text in zip(words, texts, strict=True))


def test_what_was_not_measured_is_not_judged() -> None:
    assert judge({"jobqueue": {"drain": {"rate": 1.0, "handled": 1.0}}}, set()) == []
    assert kept({"drain": {"handled": 100.0}}, "history") is None


def test_the_median_of_two_is_between_them_and_endless_waiting_is_the_largest() -> None:
    assert median([{"a": 1.0}, {"a": 3.0}, {"a": 2.0}]) == {"a": 2.0}
    assert median([{"a": 1.0}, {"a": 3.0}]) == {"a": 2.0}
    assert median([{"a": None}, {"a": 3.0}, {"a": 2.0}]) == {"a": 3.0}
    assert median([{"a": None}, {"a": 3.0}]) == {"a": None}
