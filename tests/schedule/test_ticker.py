"""The ticker: one thread that waits, proposes, and follows what the database says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.schedule.helpers import entry, turn_until
from tests.support.waiting import eventually

from jobqueue.schedule.settings_feed import ask_for_settings

if TYPE_CHECKING:
    from tests.schedule.helpers import Rig

    from jobqueue.schedule.schedules_file import ScheduleEntry
    from jobqueue.schedule.schedules_table import Schedule


def keep(rig: Rig, environment: str | None, *, enabled: bool = True) -> None:
    """Have the database hold these settings of the backend."""
    from psycopg.types.json import Jsonb

    document = Jsonb({"enableJobs": enabled, "schedulerEnvironment": environment})
    rig.rows("SELECT jobqueue.keep_settings(0, %(d)s)", d=document)


def write(rig: Rig, *entries: ScheduleEntry) -> None:
    """Have the host write these schedules."""
    rig.schedules.sync(entries)
    rig.rows("UPDATE schedules SET source = 'host'")


def test_the_first_tick_is_the_next_one(rig: Rig) -> None:
    """A schedule that is new makes up for nothing."""
    ticker = rig.ticker(entry(cron="0 3 * * *", timezone="Europe/Bucharest"))
    turn_until(ticker, lambda: rig.schedule().next_tick_at)
    waits_for = rig.schedule().next_tick_at
    assert waits_for is not None
    assert timedelta(0) < waits_for - rig.now() <= timedelta(days=1, hours=1)
    assert rig.jobs() == []


def test_a_schedule_that_fell_due_while_nothing_ran_runs_once_late(rig: Rig) -> None:
    rig.schedules.sync([entry()])
    rig.wait_for("nightly", rig.now().replace(second=0, microsecond=0) - timedelta(hours=3))
    ticker = rig.ticker(entry())
    turn_until(ticker, rig.jobs)
    (tick,) = rig.ticks()
    assert tick["stands_for"] in (180, 181)
    assert rig.now() - tick["tick"] < timedelta(minutes=1)


def test_one_that_was_paused_ticks_from_then_on(rig: Rig) -> None:
    ticker = rig.ticker(entry(every_seconds=1))
    rig.schedules.sync([entry(every_seconds=1)])
    rig.schedules.pause("nightly", "maria")
    ticker.start()
    rig.schedules.resume("nightly")
    eventually(lambda: len(rig.ticks()) >= 2 and rig.schedule().last_tick_at, 5.0)


def test_a_kind_that_nobody_serves_does_not_tick(rig: Rig) -> None:
    """Until somebody does: the registry of kinds is the one switch."""

    def heartbeats(schedule: Schedule) -> bool:
        return schedule.kind == "heartbeat"

    entries = [entry("known"), entry("unknown", kind="webhook-retry")]
    turn_until(rig.ticker(*entries, serves=heartbeats), lambda: rig.schedule("known").next_tick_at)
    assert rig.schedule("unknown").next_tick_at is None
    turn_until(rig.ticker(*entries), lambda: rig.schedule("unknown").next_tick_at)


def test_a_row_that_the_host_writes_ticks_within_two_seconds(rig: Rig) -> None:
    ticker = rig.ticker()
    ticker.start()
    eventually(lambda: ticker.beaten_at)
    rig.rows("INSERT INTO schedules (name, every_seconds, kind) VALUES ('theirs', 1, 'report')")
    eventually(lambda: rig.jobs("theirs"), 3.0)


def test_a_malformed_row_does_not_stop_the_others(rig: Rig) -> None:
    rig.rows(
        "INSERT INTO schedules (name, cron, kind) VALUES ('broken', 'every day', 'report'), ('empty', NULL, 'report')"
    )
    ticker = rig.ticker(entry())
    turn_until(ticker, lambda: rig.schedule().next_tick_at)
    assert rig.schedule("broken").next_tick_at is None


@pytest.mark.parametrize(
    "parked",
    [
        "next_tick_at = 'infinity'",
        "next_tick_at = '10000-01-01'",
        "paused_at = '-infinity'",
        "paused_at = 'infinity'",
    ],
)
def test_one_that_an_operator_has_parked_stays_so_and_the_others_tick(rig: Rig, parked: str) -> None:
    write(rig, entry("parked", every_seconds=1), entry())
    rig.rows(f"UPDATE schedules SET {parked}, last_tick_at = 'infinity' WHERE name = 'parked'")
    rig.wait_for("nightly", rig.now())
    turn_until(rig.ticker(), rig.jobs)
    assert rig.jobs("parked") == []


@pytest.mark.parametrize("moment", ["-infinity", "0044-03-15 BC"])
def test_one_that_waits_for_a_time_before_all_times_is_given_its_next_tick(rig: Rig, moment: str) -> None:
    write(rig, entry())
    rig.rows("UPDATE schedules SET next_tick_at = %(m)s::timestamptz", m=moment)
    turn_until(rig.ticker(), lambda: rig.value("SELECT next_tick_at > now() FROM schedules"))
    assert rig.jobs() == []


@pytest.mark.parametrize(
    "written",
    [
        "kind = 'post', payload = '5'",
        """kind = 'post', payload = '{"target": []}'""",
        "every_seconds = -1",
        "scaled = true",
    ],
)
def test_a_row_with_values_that_nobody_has_thought_of_does_not_stop_the_others(rig: Rig, written: str) -> None:
    write(rig, entry("broken"), entry())
    rig.rows(f"UPDATE schedules SET {written} WHERE name = 'broken'")

    targets = {"backend": 1}

    def serves(schedule: Schedule) -> bool:
        return schedule.kind != "post" or schedule.payload.get("target", "backend") in targets

    turn_until(rig.ticker(serves=serves), lambda: rig.schedule().next_tick_at)


def test_a_row_that_turns_malformed_when_it_is_due_does_not_stop_the_others(own: Rig) -> None:
    own.rows("ALTER TABLE schedules ALTER grace_seconds DROP NOT NULL")
    write(own, entry("broken", missed="skip"), entry())
    own.rows("UPDATE schedules SET grace_seconds = NULL WHERE name = 'broken'")
    for name in ("broken", "nightly"):
        own.wait_for(name, own.now())
    turn_until(own.ticker(), own.jobs)
    assert own.jobs("broken") == []


@pytest.mark.parametrize(
    "refusal",
    [
        ["ALTER TABLE jobs ADD CHECK (kind <> 'theirs')"],
        [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no such kind'; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON jobs FOR EACH ROW WHEN (NEW.kind = 'theirs') EXECUTE FUNCTION refuse()",
        ],
    ],
)
def test_a_tick_that_the_host_refuses_does_not_stop_the_others(own: Rig, refusal: list[str]) -> None:
    for statement in refusal:
        own.rows(statement)
    write(own, entry("broken", kind="theirs"), entry())
    for name in ("broken", "nightly"):
        own.wait_for(name, own.now())
    turn_until(own.ticker(), own.jobs)
    assert own.jobs("broken") == []


def test_a_process_that_is_not_primary_writes_nothing(rig: Rig) -> None:
    wanted: list[bool] = []
    ticker = rig.ticker(primary=False, fetch_settings=lambda: wanted.append(True))
    rig.rows("INSERT INTO schedules (name, every_seconds, kind) VALUES ('theirs', 1, 'report')")
    ask_for_settings(rig.link)
    turn_until(ticker, lambda: wanted)
    assert rig.schedule("theirs").next_tick_at is None
    assert rig.jobs("theirs") == []


class TestScaled:
    def period(self, rig: Rig) -> float | None:
        schedule = next(iter(rig.schedules.load(["nightly"])), None)
        if schedule is None or schedule.next_tick_at is None:
            return None
        rule = schedule.rule(rig.schedules.settings())
        assert rule is not None
        following = rule.next(schedule.next_tick_at)
        assert following is not None
        return (following - schedule.next_tick_at).total_seconds()

    def test_off_until_settings_have_been_fetched(self, rig: Rig) -> None:
        ticker = rig.ticker(entry(scaled=True), entry("plain"))
        turn_until(ticker, lambda: rig.schedule("plain").next_tick_at)
        assert rig.schedule().next_tick_at is None

    def test_the_environment_says_how_often(self, rig: Rig) -> None:
        ticker = rig.ticker(entry(scaled=True))
        ticker.start()
        for environment, period in (
            ("production", 60),
            ("staging", 180),
            ("dev", 360),
            (None, 360),
            ("production", 60),
        ):
            keep(rig, environment)
            eventually(lambda period=period: self.period(rig) == period, 3.0)  # type: ignore[misc]

    def test_a_change_makes_up_for_nothing(self, rig: Rig) -> None:
        keep(rig, "dev")
        ticker = rig.ticker(entry(scaled=True))
        turn_until(ticker, lambda: rig.schedule().next_tick_at)
        rig.wait_for("nightly", rig.now() - timedelta(hours=1))
        keep(rig, "production")
        assert rig.schedule().next_tick_at is None
        turn_until(ticker, lambda: rig.schedule().next_tick_at)
        assert rig.jobs() == []

    def test_the_same_settings_again_move_nothing(self, rig: Rig) -> None:
        keep(rig, "dev")
        turn_until(rig.ticker(entry(scaled=True)), lambda: rig.schedule().next_tick_at)
        before = rig.schedule()
        keep(rig, "dev")
        assert rig.schedule() == before

    def test_jobs_may_be_switched_off(self, rig: Rig) -> None:
        keep(rig, "production")
        ticker = rig.ticker(entry(scaled=True), entry("plain"))
        turn_until(ticker, lambda: rig.schedule().next_tick_at)
        keep(rig, "production", enabled=False)
        turn_until(ticker, lambda: rig.schedule("plain").next_tick_at)
        assert rig.schedule().next_tick_at is None


def test_what_became_of_ticks_is_counted(rig: Rig) -> None:
    ticker = rig.ticker(entry(every_seconds=1))
    ticker.start()
    eventually(rig.jobs, 5.0)
    metrics = ticker.meter.metrics
    eventually(
        lambda: b'jobqueue_schedule_ticks_total{outcome="enqueued",schedule="nightly"} 1.0' in metrics.render()[0]
    )


def test_when_a_schedule_last_ran_well_is_known_at_once(rig: Rig) -> None:
    """Also to a process that has just started: an alert on a daily schedule must not go blind for a day."""
    rig.schedules.sync([entry()])
    rig.rows(
        "INSERT INTO jobqueue.schedule_ticks (schedule, tick, state, finished_at)"
        " VALUES ('nightly', '2026-01-01', 'completed', '2026-01-01 00:00:05Z'), ('nightly', '2026-01-02', 'failed', '2026-01-02')"
    )
    ticker = rig.ticker(entry())
    ticker.turn()
    page = ticker.meter.metrics.render()[0].decode()
    assert 'jobqueue_schedule_last_success_timestamp_seconds{schedule="nightly"} 1.767225605e+09' in page
