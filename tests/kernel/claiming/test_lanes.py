"""Lanes: whatever order transactions commit in, no job is ever left behind a floor.

The model is a database in small: transactions take a number, draw positions, and commit or roll back in any order; other
claimers lock rows, and take them or give them back. The lanes see of it what the claimer's statements would show them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobqueue.kernel.claiming import lanes as lanes_module
from jobqueue.kernel.claiming.lanes import MOST_LANES, SLACK, Lanes

PRIORITIES = st.sampled_from([-3, 0, 4, 5, 6, 9])


@dataclass
class Row:
    priority: int
    position: int
    visible: bool = False
    locked: bool = False


@dataclass
class Transaction:
    number: int
    rows: list[Row] = field(default_factory=list)


class Database(RuleBasedStateMachine):
    """One claimer's lanes against the model, with `SLACK` set to 0: it is a convenience, nothing may depend on it."""

    def __init__(self) -> None:
        super().__init__()
        lanes_module.SLACK = 0
        self.lanes = Lanes()
        self.next_number = 1
        self.last_position = 0
        self.open: list[Transaction] = []
        self.rows: list[Row] = []
        self.noted: int | None = None

    def teardown(self) -> None:
        try:
            self.everything_is_claimed_in_the_end()
        finally:
            lanes_module.SLACK = SLACK

    # The others

    @rule()
    def begin(self) -> None:
        self.open.append(Transaction(self._number()))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), priority=PRIORITIES)
    def insert(self, data: st.DataObject, priority: int) -> None:
        self.last_position += 1
        row = Row(priority, self.last_position)
        data.draw(st.sampled_from(self.open)).rows.append(row)
        self.rows.append(row)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), commits=st.booleans())
    def end(self, data: st.DataObject, commits: bool) -> None:
        transaction = data.draw(st.sampled_from(self.open))
        self.open.remove(transaction)
        for row in transaction.rows:
            row.visible = commits
            if not commits:
                self.rows.remove(row)

    @precondition(lambda self: any(row.visible and not row.locked for row in self.rows))
    @rule(data=st.data())
    def another_claimer_locks(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([row for row in self.rows if row.visible and not row.locked])).locked = True

    @precondition(lambda self: any(row.locked for row in self.rows))
    @rule(data=st.data(), commits=st.booleans())
    def another_claimer_ends(self, data: st.DataObject, commits: bool) -> None:
        row = data.draw(st.sampled_from([row for row in self.rows if row.locked]))
        row.locked = False
        if commits:
            self.rows.remove(row)

    # The claimer: one statement after the other

    @precondition(lambda self: self.noted is None)
    @rule(limit=st.integers(1, 3))
    def claim(self, limit: int) -> None:
        taken: list[Row] = []
        for priority, floor in zip(*self.lanes.claim_from(), strict=True):
            lane = [row for row in self._visible(priority) if not row.locked and row.position >= floor]
            taken += lane[: limit - len(taken)]
        first: dict[int, int] = {}
        for row in taken:
            first.setdefault(row.priority, row.position)
            self.rows.remove(row)
        for priority, position in first.items():
            self.lanes.claimed(priority, position)

    @precondition(lambda self: self.noted is None)
    @rule()
    def survey(self) -> None:
        priorities, floors = self.lanes.survey_from()
        heads = [
            next((row.position for row in self._visible(priority) if row.position >= floor), None)
            for priority, floor in zip(priorities, floors, strict=True)
        ]
        found = [
            max(between)
            for low, high in zip(*self.lanes.gaps(), strict=True)
            if (between := [row.priority for row in self.rows if row.visible and low < row.priority < high])
        ]
        oldest = min([transaction.number for transaction in self.open], default=self.next_number)
        self.lanes.surveyed(priorities, heads, found, oldest)
        if self.lanes.wants_mark:
            self.noted = max(1, self.last_position)

    @precondition(lambda self: self.noted is not None)
    @rule()
    def mark(self) -> None:
        assert self.noted is not None
        self.lanes.mark(self.noted, self._number())
        self.noted = None

    @precondition(lambda self: self.noted is None)
    @rule()
    def reconnect(self) -> None:
        self.lanes.reset()

    # What must hold

    @invariant()
    def nothing_can_turn_up_below_a_safe_floor(self) -> None:
        for priority, floor in zip(*self.lanes.survey_from(), strict=True):
            assert not [row for row in self.rows if row.priority == priority and row.position < floor]

    def everything_is_claimed_in_the_end(self) -> None:
        for transaction in self.open:
            for row in transaction.rows:
                row.visible = True
        self.open.clear()
        for row in self.rows:
            row.locked = False
        rounds = 3 * (len(self.rows) + 3)
        while self.rows and rounds:
            rounds -= 1
            if self.noted is not None:
                self.mark()
            self.claim(2)
            self.survey()
        assert not self.rows

    def _number(self) -> int:
        self.next_number += 1
        return self.next_number - 1

    def _visible(self, priority: int) -> list[Row]:
        return sorted(
            (row for row in self.rows if row.visible and row.priority == priority), key=lambda row: row.position
        )


TestDatabase = pytest.mark.slow(Database.TestCase)
TestDatabase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def known(*priorities: int) -> Lanes:
    lanes = Lanes()
    lanes.surveyed([], [], list(priorities), 0)
    return lanes


def test_lanes_are_claimed_highest_first_from_the_beginning() -> None:
    assert known(5, -1, 9).claim_from() == ([9, 5, -1], [0, 0, 0])


def test_the_gaps_cover_every_priority_that_has_no_lane() -> None:
    lows, highs = known(5, 6, 9).gaps()
    covered = {n for low, high in zip(lows, highs, strict=True) for n in range(max(low + 1, -20), min(high, 20))}
    assert covered == set(range(-20, 20)) - {5, 6, 9}
    assert all(high - low > 1 for low, high in zip(lows, highs, strict=True))


def test_a_claim_raises_the_fast_floor_to_a_little_below_the_batch_and_never_lowers_it() -> None:
    lanes = known(5)
    lanes.claimed(5, 50_000)
    assert lanes.claim_from() == ([5], [50_000 - SLACK])
    lanes.claimed(5, 40_000)
    assert lanes.claim_from() == ([5], [50_000 - SLACK])


def test_a_straggler_pulls_the_fast_floor_down_and_is_news() -> None:
    lanes = known(5)
    lanes.claimed(5, 50_000)
    assert lanes.surveyed([5], [7], [], 0)
    assert lanes.claim_from() == ([5], [7])
    assert not lanes.surveyed([5], [7], [], 0)


def test_the_safe_floor_rises_only_once_everybody_before_the_mark_has_ended() -> None:
    lanes = known(5)
    wanted = [lanes.wants_mark]
    lanes.mark(1_000, 77)
    wanted.append(lanes.wants_mark)
    lanes.surveyed([5], [None], [], 76)
    assert lanes.survey_from() == ([5], [0])
    lanes.surveyed([5], [None], [], 77)
    assert lanes.survey_from() == ([5], [1_000])
    assert lanes.claim_from() == ([5], [1_000])
    assert [*wanted, lanes.wants_mark] == [True, False, True]


def test_a_pending_job_holds_the_safe_floor_back() -> None:
    lanes = known(5)
    lanes.mark(1_000, 77)
    lanes.surveyed([5], [300], [], 90)
    assert lanes.survey_from() == ([5], [300])


def test_the_least_used_lanes_are_forgotten_first() -> None:
    lanes = known(*range(MOST_LANES))
    lanes.claimed(3, 10)
    lanes.surveyed([], [], [1_000], 0)
    priorities, _ = lanes.claim_from()
    assert len(priorities) == MOST_LANES
    assert {3, 1_000} <= set(priorities)


def test_a_lane_that_was_forgotten_during_a_survey_is_left_alone() -> None:
    lanes = known(5)
    lanes.reset()
    assert not lanes.surveyed([5], [3], [], 0)
    assert lanes.claim_from() == ([], [])
