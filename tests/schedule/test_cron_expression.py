"""Cron expressions: what each means on the days the clocks change, and that no tick is lost or doubled in five years."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.schedule.schedule_rules import make_rule, previous, ticks, upcoming, zone

NEW_YORK, BUCHAREST, LORD_HOWE = "America/New_York", "Europe/Bucharest", "Australia/Lord_Howe"

# Wall-clock times with their offsets, in the order in which they tick. In New York 02:00 becomes 03:00 on 8 March 2026 and
# 02:00 becomes 01:00 on 1 November; in Bucharest 03:00 and 04:00 on 29 March and 25 October; on Lord Howe Island the clocks
# change by half an hour: 02:00 becomes 02:30 on 4 October, and 01:30 on 5 April.
GOLDEN: list[tuple[str, str, str, str]] = [
    (NEW_YORK, "30 2 * * *", "2026-03-07T00:00-05:00", "03-07T02:30-05:00 03-08T03:00-04:00 03-09T02:30-04:00"),
    (NEW_YORK, "0 * * * *", "2026-03-08T00:30-05:00", "03-08T01:00-05:00 03-08T03:00-04:00 03-08T04:00-04:00"),
    (
        NEW_YORK, "*/30 * * * *", "2026-03-08T00:30-05:00",
        "03-08T01:00-05:00 03-08T01:30-05:00 03-08T03:00-04:00 03-08T03:30-04:00 03-08T04:00-04:00",
    ),
    (NEW_YORK, "30 1 * * *", "2026-10-31T00:00-04:00", "10-31T01:30-04:00 11-01T01:30-04:00 11-02T01:30-05:00"),
    (
        NEW_YORK, "0 * * * *", "2026-11-01T00:30-04:00",
        "11-01T01:00-04:00 11-01T01:00-05:00 11-01T02:00-05:00 11-01T03:00-05:00",
    ),
    (
        NEW_YORK, "*/30 * * * *", "2026-11-01T00:30-04:00",
        "11-01T01:00-04:00 11-01T01:30-04:00 11-01T01:00-05:00 11-01T01:30-05:00 11-01T02:00-05:00 11-01T02:30-05:00",
    ),
    (NEW_YORK, "0 1-3 * * *", "2026-11-01T00:30-04:00", "11-01T01:00-04:00 11-01T02:00-05:00 11-01T03:00-05:00 11-02T01:00-05:00"),
    (NEW_YORK, "0,30 2,3 * * *", "2026-03-08T00:00-05:00", "03-08T03:00-04:00 03-08T03:30-04:00 03-09T02:00-04:00"),
    (BUCHAREST, "30 3 * * *", "2026-03-28T00:00+02:00", "03-28T03:30+02:00 03-29T04:00+03:00 03-30T03:30+03:00"),
    (BUCHAREST, "0 * * * *", "2026-03-29T01:30+02:00", "03-29T02:00+02:00 03-29T04:00+03:00 03-29T05:00+03:00"),
    (
        BUCHAREST, "*/30 * * * *", "2026-03-29T01:30+02:00",
        "03-29T02:00+02:00 03-29T02:30+02:00 03-29T04:00+03:00 03-29T04:30+03:00 03-29T05:00+03:00",
    ),
    (BUCHAREST, "30 3 * * *", "2026-10-24T00:00+03:00", "10-24T03:30+03:00 10-25T03:30+03:00 10-26T03:30+02:00"),
    (
        BUCHAREST, "0 * * * *", "2026-10-25T01:30+03:00",
        "10-25T02:00+03:00 10-25T03:00+03:00 10-25T03:00+02:00 10-25T04:00+02:00",
    ),
    (
        BUCHAREST, "*/30 * * * *", "2026-10-25T02:00+03:00",
        "10-25T02:30+03:00 10-25T03:00+03:00 10-25T03:30+03:00 10-25T03:00+02:00 10-25T03:30+02:00 10-25T04:00+02:00",
    ),
    (LORD_HOWE, "15 2 * * *", "2026-10-03T00:00+10:30", "10-03T02:15+10:30 10-04T02:30+11:00 10-05T02:15+11:00"),
    (LORD_HOWE, "0 * * * *", "2026-10-04T00:30+10:30", "10-04T01:00+10:30 10-04T03:00+11:00 10-04T04:00+11:00"),
    (
        LORD_HOWE, "*/30 * * * *", "2026-10-04T00:30+10:30",
        "10-04T01:00+10:30 10-04T01:30+10:30 10-04T02:30+11:00 10-04T03:00+11:00 10-04T03:30+11:00",
    ),
    (LORD_HOWE, "45 1 * * *", "2026-04-04T00:00+11:00", "04-04T01:45+11:00 04-05T01:45+11:00 04-06T01:45+10:30"),
    (LORD_HOWE, "0 * * * *", "2026-04-05T00:30+11:00", "04-05T01:00+11:00 04-05T02:00+10:30 04-05T03:00+10:30"),
    (LORD_HOWE, "0 */2 * * *", "2026-04-04T23:30+11:00", "04-05T00:00+11:00 04-05T02:00+10:30 04-05T04:00+10:30"),
    (
        LORD_HOWE, "*/30 * * * *", "2026-04-05T00:30+11:00",
        "04-05T01:00+11:00 04-05T01:30+11:00 04-05T01:30+10:30 04-05T02:00+10:30 04-05T02:30+10:30",
    ),
    ("UTC", "30 2 * * *", "2026-03-28T00:00+00:00", "03-28T02:30+00:00 03-29T02:30+00:00 03-30T02:30+00:00"),
    ("UTC", "0 * * * *", "2026-03-29T00:30+00:00", "03-29T01:00+00:00 03-29T02:00+00:00 03-29T03:00+00:00"),
    ("UTC", "*/30 * * * *", "2026-03-29T00:30+00:00", "03-29T01:00+00:00 03-29T01:30+00:00 03-29T02:00+00:00"),
    ("UTC", "30 1 * * *", "2026-10-24T00:00+00:00", "10-24T01:30+00:00 10-25T01:30+00:00 10-26T01:30+00:00"),
    ("UTC", "0 * * * *", "2026-10-25T00:30+00:00", "10-25T01:00+00:00 10-25T02:00+00:00 10-25T03:00+00:00"),
    ("UTC", "*/30 * * * *", "2026-10-25T00:30+00:00", "10-25T01:00+00:00 10-25T01:30+00:00 10-25T02:00+00:00"),
    # The Debian rule for days: either of two that are given, both when one begins with a star.
    ("UTC", "0 0 13 * 5", "2026-02-01T00:00+00:00", "02-06T00:00+00:00 02-13T00:00+00:00 02-20T00:00+00:00"),
    ("UTC", "0 0 */2 * 1", "2026-02-01T00:00+00:00", "02-09T00:00+00:00 02-23T00:00+00:00 03-09T00:00+00:00"),
    ("UTC", "0 0 29 2 *", "2026-02-01T00:00+00:00", "02-29T00:00+00:00 02-29T00:00+00:00"),
    # In the second of two hours that look alike, what ticked in the first is over.
    (NEW_YORK, "30 1 * * *", "2026-11-01T01:10-05:00", "11-02T01:30-05:00 11-03T01:30-05:00"),
    ("UTC", "@weekly", "2026-02-01T00:00+00:00", "02-08T00:00+00:00 02-15T00:00+00:00"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expression", "after", "expected"), GOLDEN)
def test_golden(name: str, expression: str, after: str, expected: str) -> None:
    rule = make_rule(expression, None, name)
    wanted = expected.split()
    found = upcoming(rule, datetime.fromisoformat(after).astimezone(UTC), len(wanted))
    assert [tick.astimezone(zone(name)).isoformat(timespec="minutes")[5:] for tick in found] == wanted


def test_seconds_come_first_of_six_fields() -> None:
    rule = make_rule("*/20 30 4 * * *", None, "UTC")
    found = upcoming(rule, datetime(2026, 2, 1, tzinfo=UTC), 4)
    assert [tick.strftime("%d %H:%M:%S") for tick in found] == [
        "01 04:30:00",
        "01 04:30:20",
        "01 04:30:40",
        "02 04:30:00",
    ]


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("@reboot", "@reboot"),
        ("@fortnightly", "nickname"),
        ("* * *", "five fields"),
        ("61 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("1-100000000 * * * *", "bad minute"),
        ("*/0 * * * *", "bad minute"),
        ("a b c d e", "bad minute"),
        ("0 0 * * " + ",".join("1" for _ in range(200)), "longer than"),
    ],
)
def test_malformed_expressions_are_refused(expression: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_rule(expression, None, "UTC")


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "", "Europe", "posixrules/../UTC"])
def test_unknown_zones_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="timezone"):
        make_rule("0 0 * * *", None, name)


def test_in_words() -> None:
    assert make_rule("6 2 * * *", None, "UTC").words == "At 02:06 every day"
    assert make_rule("@hourly", None, "UTC").words.lower().startswith("at the start of every hour")


ZONES = [
    NEW_YORK,
    BUCHAREST,
    LORD_HOWE,
    "UTC",
    "America/Santiago",
    "America/St_Johns",
    "Pacific/Chatham",
    "Africa/Casablanca",
]

_MINUTE = timedelta(minutes=1)


def expected(name: str, minutes: set[int] | None, hours: set[int] | None, start: datetime, days: int) -> list[datetime]:
    """By looking at the wall clock in every minute: the other way round than the code does it.

    A set that is None is a star. Fixed times tick when the clock first shows them, or when it skips them.
    """
    at = zone(name)
    shown = minutes is None or hours is None
    found = []

    def matches(wall: datetime) -> bool:
        return (minutes is None or wall.minute in minutes) and (hours is None or wall.hour in hours)

    before = start.astimezone(at)
    for number in range(1, days * 1440 + 1):
        tick = start + number * _MINUTE
        wall = tick.astimezone(at)
        skipped = []
        moment = before.replace(tzinfo=None) + _MINUTE
        while moment < wall.replace(tzinfo=None):
            skipped.append(moment)
            moment += _MINUTE
        if (shown and matches(wall)) or (
            not shown and ((matches(wall) and wall.fold == 0) or any(matches(each) for each in skipped))
        ):
            found.append(tick)
        before = wall
    return found


def changes(name: str) -> list[datetime]:
    """The days from 2026 to 2030 on which the clocks of a zone change."""
    at, days = zone(name), [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(1826)]
    return [day for day, after in pairwise(days) if day.astimezone(at).utcoffset() != after.astimezone(at).utcoffset()]


CHANGES = {name: changes(name) or [datetime(2028, 2, 29, tzinfo=UTC)] for name in ZONES}

field = st.none() | st.sets(st.integers(0, 59), min_size=1, max_size=4)


@pytest.mark.extended
@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_no_tick_is_lost_or_doubled(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(ZONES))
    minutes = data.draw(field)
    hours = data.draw(st.none() | st.sets(st.integers(0, 23), min_size=1, max_size=6) | st.just({0, 1, 2, 3}))
    day = data.draw(
        st.sampled_from(CHANGES[name]) | st.dates(datetime(2026, 1, 1).date(), datetime(2030, 12, 29).date())  # noqa: DTZ001
    )
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(minutes=data.draw(st.integers(0, 1440)))
    text = [",".join(map(str, sorted(each))) if each else "*" for each in (minutes, hours)]
    rule = make_rule(f"{text[0]} {text[1]} * * *", None, name)

    wanted = expected(name, minutes, hours, start, 2)
    found = list(ticks(rule, start, start + timedelta(days=2)))
    assert found == wanted
    assert all(one < two for one, two in pairwise(found))
    # From wherever it is asked, the answer is the same: nothing depends on what was asked before.
    moment = start + timedelta(
        seconds=data.draw(st.integers(0, 86_400)), microseconds=data.draw(st.integers(0, 999_999))
    )
    assert rule.next(moment) == next((tick for tick in wanted if tick > moment), rule.next(start + timedelta(days=2)))
    if any(tick <= moment for tick in wanted):
        assert previous(rule, moment) == max(tick for tick in wanted if tick <= moment)


@pytest.mark.parametrize("name", [NEW_YORK, BUCHAREST, LORD_HOWE, "UTC"])
def test_a_daily_tick_comes_on_every_day_of_five_years(name: str) -> None:
    rule = make_rule("30 2 * * *", None, name)
    begin, end = datetime(2026, 1, 1, tzinfo=zone(name)), datetime(2031, 1, 1, tzinfo=zone(name))
    days = [tick.astimezone(zone(name)).date() for tick in ticks(rule, begin.astimezone(UTC), end.astimezone(UTC))]
    assert days == [begin.date() + timedelta(days=n) for n in range(1826)]
