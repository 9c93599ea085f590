"""`jobqueue schedules`."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.schedule.helpers import entry
from typer.testing import CliRunner

from jobqueue.cli.main import app

if TYPE_CHECKING:
    from click.testing import Result
    from tests.schedule.helpers import Rig


class Commands:
    def __init__(self, rig: Rig) -> None:
        self._environment = {"DATABASE_URL": rig.dsn}

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["schedules", *arguments], env=self._environment)  # type: ignore[return-value]

    def document(self, *arguments: str) -> Any:
        ran = self(*arguments, "--json")
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)


@pytest.fixture
def schedules(rig: Rig) -> Commands:
    entries = [
        entry("bucharest", cron="30 3 * * *", timezone="Europe/Bucharest"),
        entry("scaled", scaled=True),
        entry("gone"),
        entry("often", every_seconds=900),
    ]
    rig.schedules.sync(entries)
    rig.schedules.sync([each for each in entries if each.name != "gone"])
    rig.rows("UPDATE schedules SET next_tick_at = now() + interval '1 hour' WHERE name IN ('bucharest', 'often')")
    return Commands(rig)


def test_list_says_when_in_words_where_and_next(rig: Rig, schedules: Commands) -> None:
    found = {each["name"]: each for each in schedules.document("list")["schedules"]}
    assert found.keys() == {"bucharest", "scaled", "often"}
    one = found["bucharest"]
    assert (one["words"], one["timezone"], one["state"]) == ("At 03:30 every day", "Europe/Bucharest", "ticking")
    assert len(one["next"]) == 5
    for tick in one["next"]:
        local = datetime.fromisoformat(tick["local"])
        assert local.strftime("%H:%M") in ("03:30", "04:00")
        assert local == datetime.fromisoformat(tick["utc"])
    assert found["often"]["words"] == "Every 15 minutes"
    assert (found["scaled"]["state"], found["scaled"]["next"]) == ("off", [])
    assert {each["name"] for each in schedules.document("list", "--all")["schedules"]} == {*found, "gone"}


def test_list_shows_the_last_runs_and_who_paused(rig: Rig, schedules: Commands) -> None:
    assert schedules("run", "often", "--by", "ion").exit_code == 0
    rig.finish_jobs()
    assert schedules("pause", "often", "--by", "maria").stdout == "often is paused\n"
    (often,) = schedules.document("list", "often")["schedules"]
    assert (often["state"], often["paused_by"], often["next"]) == ("paused", "maria", [])
    (run,) = often["last_runs"]
    assert (run["slot"], run["state"], run["called_by"]) == ("manual", "completed", "ion")


def test_list_shows_what_an_operator_has_parked(rig: Rig, schedules: Commands) -> None:
    rig.rows("UPDATE schedules SET next_tick_at = 'infinity' WHERE name = 'often'")
    rig.rows("UPDATE schedules SET paused_at = '-infinity', paused_by = 'dan' WHERE name = 'bucharest'")
    rig.rows("UPDATE schedules SET kind = 'post', payload = '5' WHERE name = 'scaled'")
    rig.rows(
        "INSERT INTO jobqueue.schedule_ticks (schedule, tick, state, started_at, finished_at)"
        " VALUES ('often', now(), 'completed', '-infinity', 'infinity')"
    )
    found = {each["name"]: each for each in schedules.document("list")["schedules"]}
    often, bucharest = found["often"], found["bucharest"]
    assert (often["state"], often["next_tick_at"], often["next"]) == ("parked", "infinity", [])
    assert (bucharest["state"], bucharest["paused_at"], bucharest["paused_by"]) == ("paused", "-infinity", "dan")
    assert [run["seconds"] for run in often["last_runs"]] == [None]
    assert len(schedules("list").stdout.splitlines()) == 4


def test_list_for_a_pipe(schedules: Commands) -> None:
    lines = [line.split("\t") for line in schedules("list").stdout.splitlines()]
    assert lines.pop(0)[:4] == ["name", "when", "timezone", "state"]
    assert [line[:4] for line in lines] == [
        ["bucharest", "30 3 * * *", "Europe/Bucharest", "ticking"],
        ["often", "every 15m", "UTC", "ticking"],
        ["scaled", "every 1m", "UTC", "off"],
    ]


def test_list_says_when_the_backend_could_not_be_asked(rig: Rig, schedules: Commands) -> None:
    rig.rows(
        "UPDATE jobqueue.backend_settings SET failures = 3, last_error = 'the backend at b.example.com answered 503'"
    )
    assert "3 times in a row" in schedules("list").stderr
    assert schedules.document("list")["backend_settings"]["failures"] == 3


def test_run_makes_one_run_at_a_time(rig: Rig, schedules: Commands) -> None:
    assert schedules("run", "often").stdout == "often was started\n"
    again = schedules("run", "often")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "has not ended" in again.stderr
    assert len(rig.jobs("often")) == 1


def test_run_works_while_it_is_paused_or_off(rig: Rig, schedules: Commands) -> None:
    schedules("pause", "often")
    assert schedules("run", "often").exit_code == 0
    assert schedules("run", "scaled").exit_code == 0
    (job,) = rig.jobs("scaled")
    assert job["tick_until"] - rig.now() > timedelta(hours=23)


def test_pause_and_resume_say_what_they_did(rig: Rig, schedules: Commands) -> None:
    assert schedules("pause", "often").exit_code == 0
    assert "@" in rig.value("SELECT paused_by FROM schedules WHERE name = 'often'")
    assert "was paused already" in schedules("pause", "often").stderr
    assert schedules("resume", "often").stdout == "often ticks again\n"
    assert rig.schedule("often").next_tick_at is None
    assert schedules.document("resume", "often") == {
        "schema": "jobqueue.schedule_change/1", "schedule": "often", "changed": False,
    }  # fmt: skip


@pytest.mark.parametrize("command", ["list", "run", "pause", "resume"])
def test_an_unknown_name_lists_those_there_are(schedules: Commands, command: str) -> None:
    ran = schedules(command, "nope")
    assert ran.exit_code == 1
    assert "bucharest, often, scaled" in ran.stderr
