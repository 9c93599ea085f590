"""The hot statements, and what each may cost whatever the table holds and the planner believes.

A row that is changed costs a descent of each index that finds it or takes it in, three pages at millions of rows, and the
pages of its old and new version. The number of those is known for each statement, and with it what a row may cost: about
half as much again as what is measured with 7 million rows, because what other tests changed and undid lies in the way,
and because a host's index takes the new version in, too.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plans.helpers import Scene
    from tests.plans.plan import Plan

# PostgreSQL's jit_above_cost.
JIT_ABOVE_COST = 100_000

# Long enough that a lease taken and undone by one test is never among those that another finds run out.
_CLAIM: dict[str, Any] = {"token": uuid4(), "worker": "w", "lease": 1e6}
_LANES: dict[str, Any] = {"priorities": [6, 5, 4], "floors": [0, 0, 0]}
_GAPS: dict[str, Any] = {"lows": [6, -(2**63)], "highs": [2**63 - 1, 4]}

# Pages for a row of jobqueue.attempts: its own, and a descent of each of two indexes.
_KEPT_ROW = 10

# As many lanes as a claimer knows at most. In the first list the last three hold jobs, in the second none does.
_MANY = list(range(67, 3, -1))
_NONE = list(range(203, 75, -2))
_MANY_GAPS: dict[str, Any] = {"lows": [*_NONE, -(2**63)], "highs": [2**63 - 1, *_NONE]}


def _nothing(_scene: Scene) -> dict[str, Any]:
    return {}


def _held(rows: int) -> Callable[[Scene], dict[str, Any]]:
    """What the holder of so many jobs hands in."""
    return lambda scene: {
        "ids": scene.ids[:rows],
        "tokens": scene.tokens[:rows],
        "id": scene.ids[0],
        "token": scene.tokens[0],
        "delays": [1e6] * rows,
        "errors": ["x"] * rows,
        "attempts": [1] * rows,
        "stages": ['{"decode": 12.5, "encode": 250.1}'] * rows,
        "worker": "w",
        "lease": 1e6,
    }


@dataclass(frozen=True)
class Guard:
    """A statement, the rows that it changes, and the pages that it may touch at most: in all, and for each row."""

    name: str
    rows: int = 0
    pages: int = 100
    per_row: int = 0
    params: Callable[[Scene], dict[str, Any]] = _nothing
    limit: int | None = None
    note: str = ""
    # Whether it leaves a row of jobqueue.attempts for each row that it changes.
    keeping: bool = False
    # Where few rows are sorted.
    may_sort: bool = False
    # Where counting stops at a cap: by whatever way it comes there, as long as that costs no more.
    any_way: bool = False
    # As a worker runs it in a session of its own; behind a pooler, and in the other guards, the planner is free to sort.
    by_index: bool = False
    # Whether it costs the same in a small table; not so what counts up to a cap, which a small table does not reach.
    flat: bool = True

    def __str__(self) -> str:
        return "-".join(str(part) for part in (self.name, self.note, self.keeping and "keeping", self.rows) if part)

    def run(self, scene: Scene, *, generic: bool) -> Plan:
        with scene.by_index() if self.by_index else nullcontext():
            return self._run(scene, generic=generic)

    def _run(self, scene: Scene, *, generic: bool) -> Plan:
        plan = scene.explain(self.name, self.params(scene), limit=self.limit, keeping=self.keeping, generic=generic)
        if not self.rows:
            # The first to pass sweeps up what other tests have undone.
            plan = scene.explain(self.name, self.params(scene), limit=self.limit, keeping=self.keeping, generic=generic)
        return plan

    def check(self, plan: Plan) -> None:
        """Raises AssertionError, with the plan, when it costs more than it may."""
        # What counts up to a cap costs more in millions of rows. Every session of ours, pooled or not, says that it is not compiled.
        if self.flat:
            check_cost(plan)
        assert not plan.compiled, str(plan)
        assert plan.changed == self.rows, str(plan)
        assert self.may_sort or not plan.sorts, str(plan)
        assert self.any_way or not plan.scans, str(plan)
        assert self.any_way or "host_index" not in plan.indexes, str(plan)
        assert plan.pages <= self.pages + self.per_row * self.rows, str(plan)


def check_cost(plan: Plan) -> None:
    """Raises AssertionError when a server as it is distributed would compile the statement."""
    assert plan.cost < JIT_ABOVE_COST, f"costs {plan.cost:g}{plan}"
    assert not plan.compiled, str(plan)


def _claim(rows: int, note: str = "", *, limit: int | None = None, pages: int = 100, **lanes: list[int]) -> Guard:
    params = {**_CLAIM, **_LANES, **lanes}
    return Guard("claim_jobs", rows, pages, 22, lambda _: params, limit or rows, note, by_index=rows > 50)


def _claim_limited(rows: int, concurrency: int, *, limit: int | None = None, pages: int) -> Guard:
    limits = {"concurrency": concurrency, "spacing": None, "burst": None, "patience": "60000"}
    params = {**_CLAIM, **_LANES, **limits}
    note = f"of-{concurrency}"
    return Guard("claim_limited", rows, pages, 22, lambda _: params, limit or rows, note, by_index=rows > 50)


def _write(name: str, rows: int, per_row: int) -> Guard:
    return Guard(name, rows, 100, per_row, _held(rows))


def _keep(name: str, rows: int, per_row: int) -> Guard:
    # Besides, a row and its entries in two indexes.
    return Guard(name, rows, 100, per_row + _KEPT_ROW, _held(rows), keeping=True)


GUARDS = (
    # Found in the claim index and by its key; taken into the indexes on the key and on the lease.
    *(_claim(rows) for rows in (1, 50, 1000)),
    _claim(0, "lanes-are-empty", limit=50, pages=20, priorities=[9, 8, 7]),
    # One descent, three or four pages, for each lane.
    _claim(50, "many-lanes", pages=64 * 5, priorities=_MANY, floors=[0] * 64),
    Guard("claim_suspect", 1, 45, 0, lambda _: _CLAIM, limit=1),
    # What is leased is counted, up to the number that may be: the scene has two thousand leases, and a page for each.
    *(_claim_limited(rows, 5_000, pages=2_500) for rows in (1, 50, 1000)),
    _claim_limited(0, 20, limit=50, pages=150),
    # A descent for each lane and for each gap between them.
    Guard("survey_queue", 0, 50, 0, lambda _: {**_LANES, **_GAPS}),
    Guard(
        "survey_queue", 0, 129 * 5, 0, lambda _: {"priorities": _NONE, "floors": [0] * 64, **_MANY_GAPS}, note="many"
    ),
    Guard("mark_position", 0, 5),
    # Found by the delayed index and by their key; taken into those on the key, the turn and the unique key.
    Guard("promote_jobs", 1000, 100, 32, by_index=True),
    # Found by the key; taken into its index and into those of the state that they enter.
    *(_write("complete_jobs", rows, 24) for rows in (1, 50, 1000)),
    *(_keep("complete_jobs", rows, 24) for rows in (1, 50, 1000)),
    _keep("cancel_jobs", 50, 22),
    _keep("fail_jobs", 50, 26),
    _keep("retry_jobs", 50, 28),
    _write("snooze_jobs", 50, 28),
    _write("release_jobs", 50, 30),
    # Found twice: those that are held, and of those the ones that nobody has locked.
    _write("renew_leases", 50, 28),
    Guard("find_completed", 0, 9 * 50, 0, _held(50)),
    Guard("hold_job", 0, 10, 0, _held(1)),
    # Jobs in progress are few: a host's index on the status finds them as well, and sorting them costs nothing.
    Guard("rescue_jobs", 500, 100, 32 + _KEPT_ROW, lambda _: {"lease": 0.0, "gone": []}, may_sort=True, any_way=True),
    Guard("lease_orphans", 500, 100, 26, lambda _: {"lease": 1e6}, may_sort=True, any_way=True),
    # Reads every lease that is held, of which there are thousands at most, and one of the pages for each.
    Guard("release_claim", 0, 3_000, 0, lambda _: {"token": uuid4()}, any_way=True, flat=False),
    Guard("find_strays", 0, 3_000, 0, lambda _: {"worker": "nobody"}, may_sort=True, any_way=True, flat=False),
    # Counting to ten thousand in each of the partial indexes: a thousand pages. A table that was never analyzed, or empty
    # then, is believed to hold little: everything that is due is read, a quarter of a second for a million.
    Guard("measure_queue", 0, 45_000, 0, lambda _: _LANES, may_sort=True, any_way=True, flat=False),
    Guard("inspect_queue", 0, 45_000, 0, may_sort=True, any_way=True, flat=False),
)
