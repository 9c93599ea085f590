"""What is proposed when a schedule is due: ticks on time, and what each policy makes of those that were missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from jobqueue.schedule.due_ticks import LATE, Policy, due_ticks
from jobqueue.schedule.intervals import Interval
from jobqueue.schedule.schedule_rules import make_rule

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE, SECOND = Interval(60), Interval(1)


def ago(**parts: float) -> datetime:
    return NOON - timedelta(**parts)


def test_nothing_is_due_before_its_time() -> None:
    assert due_ticks(MINUTE, Policy(), NOON, ago(seconds=1), ago(days=1)) == []


def test_a_tick_on_time_runs_and_ends_with_the_next() -> None:
    (tick,) = due_ticks(MINUTE, Policy(), NOON, NOON, ago(days=1))
    assert (tick.at, tick.ends, tick.stands_for, tick.missed) == (NOON, NOON + timedelta(minutes=1), 1, False)


def test_ticks_that_were_watched_for_and_are_a_little_late_all_run() -> None:
    found = due_ticks(SECOND, Policy(), ago(seconds=5), NOON, ago(days=1))
    assert [tick.at for tick in found] == [ago(seconds=n) for n in (5, 4, 3, 2, 1, 0)]


def test_missed_once_is_one_late_run_of_the_last() -> None:
    now = NOON + timedelta(seconds=30)
    (tick,) = due_ticks(MINUTE, Policy("once"), ago(minutes=9), now, now)
    assert (tick.at, tick.stands_for, tick.missed) == (NOON, 10, False)


def test_missed_once_beside_ticks_on_time() -> None:
    found = due_ticks(SECOND, Policy("once"), ago(minutes=5), NOON, ago(days=1))
    assert (found[0].at, found[0].stands_for) == (NOON - LATE - timedelta(seconds=1), 300 - 15)
    assert [tick.at for tick in found[1:]] == [ago(seconds=n) for n in range(15, -1, -1)]


def test_missed_skip_passes_over_what_is_later_than_its_grace() -> None:
    now = NOON + timedelta(seconds=30)
    (passed, late) = due_ticks(MINUTE, Policy("skip", timedelta(seconds=60)), ago(minutes=9), now, now)
    assert (passed.at, passed.missed, passed.stands_for) == (ago(minutes=1), True, 9)
    assert (late.at, late.missed) == (NOON, False)


def test_missed_catch_up_is_bounded() -> None:
    now = NOON + timedelta(seconds=30)
    found = due_ticks(MINUTE, Policy("catch_up", most=3), ago(hours=9), now, now)
    assert [tick.at for tick in found] == [ago(minutes=2), ago(minutes=1), NOON]
    assert len(due_ticks(MINUTE, Policy("catch_up", most=100), ago(minutes=9), now, now)) == 10


def test_years_of_missed_seconds_cost_nothing() -> None:
    (tick,) = due_ticks(SECOND, Policy("once"), ago(days=2000), NOON, NOON + timedelta(seconds=1))
    assert (tick.at, tick.stands_for) == (NOON, 1000)


def test_a_moment_that_is_no_tick_is_run_for_itself() -> None:
    """Somebody has set next_tick_at, or a zone's rules have changed."""
    rule = make_rule("0 3 * * *", None, "UTC")
    (tick,) = due_ticks(rule, Policy("once"), ago(hours=1), NOON, NOON)
    assert (tick.at, tick.stands_for) == (ago(hours=1), 1)
