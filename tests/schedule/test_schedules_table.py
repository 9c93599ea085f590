"""What the database decides: a tick is made once, and never when it must not be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.schedule.helpers import entry

from jobqueue.kernel.database.link import Link
from jobqueue.schedule.due_ticks import Tick
from jobqueue.schedule.schedules_table import Fired, Proposal, Schedules

if TYPE_CHECKING:
    from tests.schedule.helpers import Rig

HOUR = timedelta(hours=1)


def fire(rig: Rig, at: datetime, name: str = "nightly", schedules: Schedules | None = None) -> Fired:
    """Propose that a schedule, which waits for `at`, ticks."""
    schedule = rig.schedule(name)
    (fired,) = (schedules or rig.schedules).fire([Proposal(schedule, at, [Tick(at, at + HOUR)], at + HOUR)])
    return fired


@pytest.fixture
def waiting(rig: Rig) -> datetime:
    """A schedule that has been waiting for this tick, which was due a second ago."""
    rig.schedules.sync([entry()])
    tick = rig.now().replace(microsecond=0) - timedelta(seconds=1)
    rig.wait_for("nightly", tick)
    return tick


class TestFiring:
    def test_makes_the_job_and_moves_on(self, rig: Rig, waiting: datetime) -> None:
        fired = fire(rig, waiting)
        assert fired.outcomes == ["enqueued"]
        assert fired.next_tick_at == waiting + HOUR
        (job,) = rig.jobs()
        assert (job["kind"], job["tick_at"], job["tick_until"], job["status"]) == (
            "heartbeat", waiting, waiting + HOUR, "pending",
        )  # fmt: skip
        assert rig.schedule().last_tick_at == waiting
        assert [(tick["state"], tick["job_id"]) for tick in rig.ticks()] == [("enqueued", str(job["id"]))]

    def test_twenty_at_once_make_one_job(self, rig: Rig, waiting: datetime) -> None:
        schedule = rig.schedule()

        def propose(_n: int) -> list[Fired]:
            link = Link(rig.dsn, "test")
            try:
                return Schedules(link).fire([Proposal(schedule, waiting, [Tick(waiting, None)], waiting + HOUR)])
            finally:
                link.close()

        with ThreadPoolExecutor(10) as pool:
            outcomes = [fired.outcomes for found in pool.map(propose, range(20)) for fired in found]
        assert sorted(map(str, outcomes)) == ["None"] * 19 + ["['enqueued']"]
        assert len(rig.jobs()) == len(rig.ticks()) == 1

    def test_a_tick_that_was_made_is_not_made_again_even_if_the_row_is_set_back(
        self, rig: Rig, waiting: datetime
    ) -> None:
        fire(rig, waiting)
        rig.finish_jobs()
        rig.wait_for("nightly", waiting)
        assert fire(rig, waiting).outcomes == ["taken"]
        assert len(rig.jobs()) == 1

    def test_the_databases_clock_decides(self, rig: Rig, waiting: datetime) -> None:
        ahead = waiting + timedelta(seconds=30)
        rig.wait_for("nightly", ahead)
        assert fire(rig, ahead).outcomes is None
        assert rig.jobs() == rig.ticks() == []

    def test_a_changed_definition_voids_a_proposal(self, rig: Rig, waiting: datetime) -> None:
        schedule = rig.schedule()
        rig.rows("UPDATE schedules SET payload = '{\"new\": true}'")
        (fired,) = rig.schedules.fire([Proposal(schedule, waiting, [Tick(waiting, None)], waiting + HOUR)])
        assert (fired.outcomes, fired.revision) == (None, schedule.revision + 1)
        assert rig.jobs() == []

    @pytest.mark.parametrize("change", ["enabled = false", "paused_at = now()"])
    def test_what_is_off_does_not_tick(self, rig: Rig, waiting: datetime, change: str) -> None:
        rig.rows(f"UPDATE schedules SET {change}")
        rig.wait_for("nightly", waiting)
        assert fire(rig, waiting).outcomes is None
        assert rig.jobs() == []

    def test_a_row_that_somebody_holds_is_left_and_the_others_tick(self, rig: Rig, waiting: datetime) -> None:
        rig.schedules.sync([entry(), entry("other")])
        rig.wait_for("other", waiting)
        rig.connect().execute("SELECT 1 FROM schedules WHERE name = 'nightly' FOR UPDATE")
        proposals = [
            Proposal(rig.schedule(name), waiting, [Tick(waiting, None)], waiting + HOUR)
            for name in ("nightly", "other")
        ]
        assert {fired.name: fired.outcomes for fired in rig.schedules.fire(proposals)} == {
            "nightly": None,
            "other": ["enqueued"],
        }

    def test_the_job_before_has_not_ended(self, rig: Rig, waiting: datetime) -> None:
        fire(rig, waiting)
        rig.wait_for("nightly", waiting + timedelta(seconds=1))
        assert fire(rig, waiting + timedelta(seconds=1)).outcomes == ["overlapped"]
        assert len(rig.jobs()) == 1
        assert [tick["state"] for tick in rig.ticks()] == ["enqueued", "overlapped"]

    def test_within_one_proposal_too(self, rig: Rig, waiting: datetime) -> None:
        earlier = waiting - timedelta(seconds=1)
        rig.wait_for("nightly", earlier)
        ticks = [Tick(earlier, waiting), Tick(waiting, None)]
        (fired,) = rig.schedules.fire([Proposal(rig.schedule(), earlier, ticks, waiting + HOUR)])
        assert fired.outcomes == ["enqueued", "overlapped"]

    def test_overlap_may_be_allowed(self, rig: Rig, waiting: datetime) -> None:
        rig.schedules.sync([entry(overlap="allow")])
        fire(rig, waiting)
        rig.wait_for("nightly", waiting + timedelta(seconds=1))
        assert fire(rig, waiting + timedelta(seconds=1)).outcomes == ["enqueued"]
        assert len(rig.jobs()) == 2

    def test_jitter_is_the_schedules_own_and_always_the_same(self, rig: Rig) -> None:
        names = [f"s{n}" for n in range(8)]
        rig.schedules.sync([entry(name, jitter_seconds=3600) for name in names])
        tick = rig.now().replace(microsecond=0)
        delays: dict[str, list[timedelta]] = {name: [] for name in names}
        for at in (tick - timedelta(seconds=2), tick - timedelta(seconds=1)):
            for name in names:
                rig.wait_for(name, at)
                fire(rig, at, name)
                delays[name].append(rig.jobs(name)[-1]["run_after"] - at)
            rig.finish_jobs()
        assert all(one == two for one, two in delays.values())
        assert len({one for one, _ in delays.values()}) == len(names)
        assert all(timedelta(0) <= one < HOUR for one, _ in delays.values())

    def test_a_tick_learns_what_became_of_its_job(self, rig: Rig, waiting: datetime) -> None:
        fire(rig, waiting)
        rig.rows(
            "UPDATE jobs SET status = 'failed', started_at = now(), completed_at = now(), retry_count = 3, error_message = 'no answer'"
        )
        (tick,) = rig.ticks()
        assert (tick["state"], tick["attempts"], tick["error_message"]) == ("failed", 3, "no answer")
        rig.rows("UPDATE jobs SET status = 'pending'")
        assert rig.ticks()[0]["state"] == "enqueued"
        rig.finish_jobs()
        rig.rows("DELETE FROM jobs")
        assert rig.ticks()[0]["state"] == "completed"


class TestFile:
    def test_what_has_not_changed_is_not_written(self, rig: Rig) -> None:
        entries = [entry("a"), entry("b", every_seconds=None, cron="0 0 * * *")]
        assert rig.schedules.sync(entries) == ["a", "b"]
        rig.wait_for("a", rig.now())
        before = rig.rows("SELECT *, xmin FROM schedules ORDER BY name")
        assert rig.schedules.sync(entries) == []
        assert rig.rows("SELECT *, xmin FROM schedules ORDER BY name") == before

    def test_another_expression_never_makes_up_for_anything(self, rig: Rig, waiting: datetime) -> None:
        rig.schedules.sync([entry(every_seconds=30)])
        schedule = rig.schedule()
        assert (schedule.next_tick_at, schedule.every_seconds) == (None, 30)
        assert fire(rig, waiting).outcomes is None

    def test_other_work_does_not_move_the_ticks(self, rig: Rig, waiting: datetime) -> None:
        rig.schedules.sync([entry(payload={"a": 1})])
        assert rig.schedule().next_tick_at == waiting

    def test_what_the_file_no_longer_has_stops_and_may_come_back(self, rig: Rig, waiting: datetime) -> None:
        assert rig.schedules.sync([entry("other")]) == ["nightly", "other"]
        gone = rig.schedule()
        assert (gone.enabled, gone.next_tick_at) == (False, None)
        assert gone.removed_at is not None
        rig.schedules.sync([entry(), entry("other")])
        back = rig.schedule()
        assert (back.enabled, back.removed_at, back.next_tick_at) == (True, None, None)

    def test_rows_of_the_host_are_left_alone(self, rig: Rig) -> None:
        rig.rows("INSERT INTO schedules (name, cron, kind) VALUES ('ours', '0 4 * * *', 'report')")
        rig.schedules.sync([entry()])
        assert rig.schedule("ours").enabled

    def test_a_pause_outlives_the_file(self, rig: Rig, waiting: datetime) -> None:
        assert rig.schedules.pause("nightly", "maria")
        assert not rig.schedules.pause("nightly", "ion")
        rig.schedules.sync([entry(every_seconds=30)])
        assert (rig.schedule().paused_at is not None, rig.schedule().paused_by) == (True, "maria")

    def test_what_fell_into_a_pause_was_not_missed(self, rig: Rig, waiting: datetime) -> None:
        rig.schedules.pause("nightly", "maria")
        assert rig.schedules.resume("nightly")
        assert rig.schedule().next_tick_at is None
        assert not rig.schedules.resume("nightly")

    def test_several_starting_at_once(self, rig: Rig) -> None:
        def sync(n: int) -> list[str]:
            link = Link(rig.dsn, "test")
            try:
                return Schedules(link).sync([entry(f"s{number}", payload={"from": n % 2}) for number in range(20)])
            finally:
                link.close()

        with ThreadPoolExecutor(6) as pool:
            assert len(list(pool.map(sync, range(12)))) == 12
        assert len({str(row["payload"]) for row in rig.rows("SELECT payload FROM schedules")}) == 1


class TestCalling:
    def call(self, rig: Rig, at: datetime, by: str = "http", period: timedelta = HOUR) -> str:
        return rig.schedules.call(rig.schedule(), at, at + period, by)

    def test_two_calls_for_one_tick_are_one_run(self, rig: Rig, waiting: datetime) -> None:
        assert self.call(rig, waiting) == "enqueued"
        rig.finish_jobs()
        assert self.call(rig, waiting) == "taken"
        assert len(rig.jobs()) == 1

    def test_a_call_in_time_is_the_tick_itself(self, rig: Rig, waiting: datetime) -> None:
        self.call(rig, waiting)
        rig.finish_jobs()
        assert fire(rig, waiting).outcomes == ["taken"]
        assert len(rig.jobs()) == 1

    def test_and_the_other_way_round(self, rig: Rig, waiting: datetime) -> None:
        fire(rig, waiting)
        rig.finish_jobs()
        assert self.call(rig, waiting) == "taken"

    def test_a_call_long_after_the_tick_runs_once_more(self, rig: Rig, waiting: datetime) -> None:
        long_ago = waiting - timedelta(minutes=20)
        rig.wait_for("nightly", long_ago)
        fire(rig, long_ago)
        rig.finish_jobs()
        assert self.call(rig, long_ago) == "enqueued"
        rig.finish_jobs()
        assert self.call(rig, long_ago) == "taken"
        assert [tick["slot"] for tick in rig.ticks()] == ["call", "tick"]

    def test_but_not_when_a_call_was_the_tick(self, rig: Rig, waiting: datetime) -> None:
        self.call(rig, waiting)
        rig.finish_jobs()
        rig.rows("UPDATE jobqueue.schedule_ticks SET tick = tick - interval '20 minutes'")
        assert self.call(rig, waiting - timedelta(minutes=20)) == "taken"

    def test_while_it_runs_it_is_not_started_again(self, rig: Rig, waiting: datetime) -> None:
        self.call(rig, waiting)
        assert self.call(rig, waiting + timedelta(seconds=1)) == "overlapped"
        assert len(rig.ticks()) == 1

    def test_a_person_runs_it_whenever_nothing_runs(self, rig: Rig, waiting: datetime) -> None:
        rig.schedules.pause("nightly", "maria")
        for _ in range(2):
            assert self.call(rig, waiting, "maria") == "enqueued"
            rig.finish_jobs()
        assert [(tick["slot"], tick["called_by"]) for tick in rig.ticks()] == [("manual", "maria")] * 2
        assert self.call(rig, waiting) == "paused"


class TestMigration:
    def test_a_hosts_table_is_completed(self, own: Rig) -> None:
        """Run by hand what the migration runs, on a table with fewer columns and a row."""
        from jobqueue.migrations import load

        text = next(migration.sql for migration in load() if migration.version == 6)
        create, _, _ = text.partition("COMMENT ON COLUMN public.schedules.source")
        own.rows("DROP TABLE schedules CASCADE")
        own.rows("CREATE TABLE schedules (name text PRIMARY KEY, cron text, enabled boolean)")
        own.rows("INSERT INTO schedules VALUES ('theirs', '0 1 * * *', NULL)")
        own._connection.execute(create.encode())
        schedule = own.schedule("theirs")
        assert (schedule.cron, schedule.timezone, schedule.enabled, schedule.revision) == ("0 1 * * *", "UTC", True, 1)
