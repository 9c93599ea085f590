"""How far back a look begins: where the last clean one was and a little before, and now and then at the beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobqueue.kernel.database import lookback as module
from jobqueue.kernel.database.lookback import ALL_THE_WAY_EVERY, Lookback
from jobqueue.kernel.database.rows import LaneFloors, LaneGaps

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_the_first_look_goes_all_the_way_and_so_does_one_after_a_look_that_was_not_clean(clock: Clock) -> None:
    lookback = Lookback(margin=60.0)
    assert lookback.seconds() is None
    assert lookback.seconds() is None
    lookback.clean()
    clock.now += 5.0
    assert lookback.seconds() == 65.0
    clock.now += 5.0
    # That one left something behind: the next begins where the last clean one was.
    assert lookback.seconds() == 70.0
    lookback.clean()
    clock.now += 5.0
    assert lookback.seconds() == 65.0


def test_every_two_minutes_a_look_goes_all_the_way(clock: Clock) -> None:
    lookback = Lookback()
    lookback.seconds()
    lookback.clean()
    begun = clock.now
    while lookback.seconds() is not None:
        lookback.clean()
        clock.now += 1.0
    assert ALL_THE_WAY_EVERY < clock.now - begun <= ALL_THE_WAY_EVERY + 1.0


def test_after_a_reset_a_look_goes_all_the_way(clock: Clock) -> None:
    lookback = Lookback()
    lookback.seconds()
    lookback.clean()
    clock.now += 1.0
    lookback.reset()
    assert lookback.seconds() is None


def test_delayed_jobs_and_leases_further_back_are_not_seen(rig: Rig) -> None:
    store = rig.store()
    rig.insert(1, run_after="=now() + interval '1 hour'")
    rig.insert(1, run_after="=now() + interval '2 hours'")
    rig.sql.execute(b"ALTER TABLE jobs DISABLE TRIGGER USER")
    rig.sql.execute(b"UPDATE jobs SET run_after = run_after - interval '1 hour 100 seconds'")
    lanes, gaps = LaneFloors([], []), LaneGaps([], [])
    due = store.survey(rig.link, lanes, gaps).next_delayed
    later = store.survey(rig.link, lanes, gaps, 50.0).next_delayed
    assert due is not None
    assert later is not None
    assert -110 < due < -90 < 3_400 < later < 3_600
    assert (store.promote(rig.link, 50.0), store.promote(rig.link, 150.0)) == (0, 1)
    rig.claim(1, lease=-100.0)
    assert not store.rescue(rig.link, 0.0, 50.0)
    assert len(store.rescue(rig.link, 0.0, 150.0)) == 1
