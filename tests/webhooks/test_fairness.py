"""Slots are shared so that slow and dead endpoints never hold up the others."""

from __future__ import annotations

import pytest

from jobqueue.webhooks.endpoint_breaker import OPEN, PROBES, THRESHOLD, Breaker
from jobqueue.webhooks.fairness import LATEST, SOONEST, Call, FairShare, PutOff, Visit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def share(clock: Clock, slots: int = 40, proven: tuple[str, ...] = (), new: tuple[str, ...] = ()) -> FairShare:
    fair = FairShare(slots, clock)
    for name in (*proven, *new):
        fair.introduce(name, failures=0, proven=name in proven)
        visit = fair.enter(name)
        assert isinstance(visit, Visit)
        if name in proven:
            fair.ended(visit, succeeded=True, seconds=0.02)
        fair.leave(visit)
    clock.now += 0.5
    return fair


def fill(fair: FairShare, webhook: str, tries: int = 100) -> list[Visit]:
    entered = [fair.enter(webhook) for _ in range(tries)]
    return [visit for visit in entered if isinstance(visit, Visit)]


def test_one_webhook_alone_has_most_of_the_slots_and_among_many_its_share(clock: Clock) -> None:
    assert len(fill(share(clock, 40, ("a",)), "a")) == 30
    many = tuple("abcdefghijklmnopqrst")
    assert len(fill(share(clock, 40, many), "a")) == 4


def test_webhooks_that_are_slow_leave_half_of_the_slots_to_the_others(clock: Clock) -> None:
    slow = tuple("abcdefghij")
    fair = share(clock, 20, ("good", *slow))
    for name in slow:
        [visit] = fill(fair, name, 1)
        fair.ended(visit, succeeded=True, seconds=9.0)
        fair.leave(visit)
    clock.now += 0.5
    assert sum(len(fill(fair, name)) for name in slow) == 10
    assert fill(fair, "good")


def test_webhooks_that_are_new_have_one_slot_each_until_they_have_answered(clock: Clock) -> None:
    new = tuple("abcdefghijklmnopqr")
    fair = share(clock, 20, ("good",), new)
    held = [fill(fair, name) for name in new]
    assert [len(visits) for visits in held] == [1] * 15 + [0] * 3
    assert fill(fair, "good")
    fair.ended(held[0][0], succeeded=True, seconds=0.01)
    clock.now += 0.5
    assert fill(fair, "a")


def test_a_request_that_hangs_makes_its_webhook_slow_before_it_ends(clock: Clock) -> None:
    fair = share(clock, 8, ("a", "b"))
    assert len(fill(fair, "a")) == 4
    clock.now += 2.0
    assert isinstance(fair.enter("a"), PutOff)
    assert len(fill(fair, "b")) == 4


def test_with_one_slot_everything_still_goes(clock: Clock) -> None:
    fair = share(clock, 1, ("a",), ("b",))
    [visit] = fill(fair, "b", 1)
    fair.leave(visit)
    assert len(fill(fair, "a", 1)) == 1


def test_what_is_put_off_is_given_appointments_one_after_the_other(clock: Clock) -> None:
    fair = share(clock, 4, ("a", "b"))
    put_off = [each for each in (fair.enter("a") for _ in range(100)) if isinstance(each, PutOff)]
    delays = [each.seconds for each in put_off]
    assert delays == sorted(delays)
    assert delays[0] > SOONEST
    assert delays[-1] - delays[0] == pytest.approx(97 * 0.02 / 2, rel=0.01)
    assert max(each.seconds for each in (PutOff(0, ""), *put_off)) <= LATEST


def test_a_dead_endpoint_is_tried_by_a_few_and_the_others_wait_for_what_comes_of_it(clock: Clock) -> None:
    fair = share(clock, 40, ("a",), ("dead",))
    for _ in range(THRESHOLD):
        [visit] = fill(fair, "dead", 1)
        fair.ended(visit, succeeded=False, seconds=0.01)
        fair.leave(visit)
    turned_away = [each for each in (fair.enter("dead") for _ in range(10)) if isinstance(each, PutOff)]
    assert [each.seconds <= OPEN.first + 0.01 for each in turned_away] == [True] * PROBES + [False] * (10 - PROBES)
    assert turned_away[-1].seconds == LATEST
    clock.now += OPEN.first + 0.1
    probes = fill(fair, "dead")
    assert len(probes) == PROBES
    for visit in probes:
        fair.ended(visit, succeeded=False, seconds=0.01)
        fair.leave(visit)
    assert fill(fair, "dead") == []


def test_when_it_comes_back_to_life_the_others_are_called(clock: Clock) -> None:
    fair = share(clock, 40, ("a",), ("b",))
    fair.call()
    for _ in range(THRESHOLD):
        [visit] = fill(fair, "b", 1)
        fair.ended(visit, succeeded=False, seconds=0.01)
        fair.leave(visit)
    assert fill(fair, "b") == []
    clock.now += OPEN.first + 0.1
    [probe, *_] = fill(fair, "b", 1)
    fair.ended(probe, succeeded=True, seconds=0.01)
    fair.leave(probe)
    called = {call.webhook: call for call in (fair.call(), fair.call()) if call is not None}
    assert called["b"].number > PROBES
    fair.called(called["b"], 100)
    clock.now += 5.0
    fair.called(Call("b", 500), 0)
    assert all(call.webhook != "b" for call in (fair.call(), fair.call()) if call is not None)


def test_an_endpoint_that_asks_for_time_is_given_it(clock: Clock) -> None:
    fair = share(clock, 40, ("a",))
    [visit] = fill(fair, "a", 1)
    fair.ended(visit, succeeded=False, seconds=0.01, asked=1000.0)
    fair.leave(visit)
    turned_away = [each for each in (fair.enter("a") for _ in range(10)) if isinstance(each, PutOff)]
    assert all(1000.0 <= each.seconds < 1001.0 for each in turned_away)
    clock.now += 1000.1
    assert fill(fair, "a")


def test_deliveries_of_a_disabled_webhook_need_no_slot(clock: Clock) -> None:
    fair = share(clock, 4, ("a",), ("b",))
    [visit] = fill(fair, "b", 1)
    fair.disabled(visit)
    fair.leave(visit)
    assert len(fill(fair, "b", 50)) == 50


def test_webhooks_that_are_long_gone_are_forgotten(clock: Clock) -> None:
    fair = share(clock, 4, ("a", "b"))
    clock.now += 3600.0
    fair.enter("a")
    assert not fair.knows("b")


def test_a_breaker_stays_open_longer_each_time_and_closes_at_once() -> None:
    breaker, now, spans = Breaker(), 0.0, []
    for _ in range(40):
        breaker.failed(now)
        if breaker.is_open(now):
            spans.append(breaker.open_until - now)
            now = breaker.open_until
    assert spans[0] <= OPEN.first < max(spans) <= OPEN.longest
    assert len(spans) == 40 - THRESHOLD + 1
    breaker.succeeded()
    assert breaker.trusted
    assert not breaker.is_open(now)
