from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from tests.chaos.plan import KINDS, Fault, make_plan
from tests.chaos.work import FAILING, HOWS, Work

SEEDS = range(20)


def plan(seed: int, seconds: float = 600.0) -> list[Fault]:
    return make_plan(seed, seconds, workers=4, proxied=2, lease=5)


def test_a_seed_tells_the_whole_plan() -> None:
    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_of_fault_happens_and_is_over_in_time(seed: int) -> None:
    faults = plan(seed)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    assert all(fault.at + fault.seconds <= 600.0 for fault in faults)


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_suffers_two_faults_at_once(seed: int) -> None:
    by_victim: defaultdict[str, list[Fault]] = defaultdict(list)
    for fault in plan(seed):
        by_victim[fault.victim].append(fault)
    for faults in by_victim.values():
        assert all(one.at + one.seconds < other.at for one, other in pairwise(faults))


@pytest.mark.parametrize("seed", SEEDS)
def test_only_workers_behind_a_proxy_are_silenced(seed: int) -> None:
    assert {fault.victim for fault in plan(seed) if fault.kind in ("silence", "lose")} <= {"0", "1"}


def test_a_seed_tells_the_whole_work() -> None:
    one, again, other = Work(1, 0), Work(1, 0), Work(2, 0)
    pieces = [one.piece(n) for n in range(2000)]
    assert pieces == [again.piece(n) for n in range(2000)]
    assert pieces != [other.piece(n) for n in range(2000)]
    assert {piece.queue for piece in pieces} == set(HOWS)
    assert {piece.how for piece in pieces if piece.fails} == FAILING


def test_sources_are_their_own() -> None:
    work = Work(1, 0)
    assert work.file("photo-1") == work.file("photo-1") != work.file("photo-9")
    assert work.file("changing-1") != work.file("changing-1")
    assert work.file("missing-1") is None
