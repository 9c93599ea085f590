"""Files of schedules: what comes with the package, and what is refused, with all of its faults at once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jobqueue.errors import ConfigurationError
from jobqueue.schedule.schedules_file import ScheduleEntry, packaged, read_plan
from jobqueue.schedule.targets import open_targets
from jobqueue.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "schedules.toml"
        path.write_text(text)
        return path

    return write


def entries(path: Path | None = None) -> dict[str, ScheduleEntry]:
    return {entry.name: entry for entry in read_plan(path).entries}


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        read_plan(path)
    return refused.value.problems


class TestDefaults:
    def test_all_that_the_contract_lists(self) -> None:
        found = entries()
        assert {name for name, entry in found.items() if entry.kind != "post"} == {
            "webhook-retry", "notification-expiry", "data-archival", "media-purge", "job-retention", "heartbeat",
        }  # fmt: skip
        posts = {
            name: (entry.every_seconds, entry.payload["path"]) for name, entry in found.items() if entry.kind == "post"
        }
        assert posts == {
            "feed-flush": (86_400, "/api/feed/flush"),
            "feed-aggregate": (900, "/api/feed/aggregate"),
            "feed-rank": (1200, "/api/feed/rank"),
            "hub-snapshot-locations": (3600, "/api/hub/build-snapshot"),
            "sync-city-counters": (3600, "/api/sync/city-counters"),
            "sync-listing-type-counters": (3600, "/api/sync/listing-type-counters"),
            "cleanup-temp-media": (86_400, "/api/cleanup/temp-media"),
            "cleanup-deleted-listings": (86_400, "/api/cleanup/deleted-listings"),
            "admin-digest-daily": (86_400, "/api/admin/digest"),
        }
        assert all(entry.scaled for entry in found.values() if entry.kind == "post")
        assert found["hub-snapshot-locations"].payload["json"] == {"collection": "locations"}
        assert (found["data-archival"].cron, found["data-archival"].timezone) == ("0 0 * * *", "UTC")
        assert [found[name].every_seconds for name in ("webhook-retry", "notification-expiry", "heartbeat")] == [
            300,
            300,
            60,
        ]

    def test_the_example_posts_elsewhere(self, write: Callable[[str], Path]) -> None:
        plan = read_plan(write(packaged("election-data.toml")))
        found = {
            entry.name: (entry.cron, entry.payload["path"])
            for entry in plan.entries
            if entry.payload.get("target") == "election-data"
        }
        assert found == {
            "ee-recent": ("*/5 * * * *", "/cron/ee-recent"),
            "parties-import": ("6 2 * * *", "/cron/parties-import"),
            "check-current": ("23 23 * * *", "/cron/check-current"),
            "mop-recent": ("33 23 * * *", "/cron/mop-recent?delta=25"),
        }
        assert "media-purge" in {entry.name for entry in plan.entries}
        environ = {
            "DATABASE_URL": "postgresql:///app", "ELECTION_DATA_URL": "https://data.example.com/", "ELECTION_DATA_SECRET": "canary-one,canary-two",
        }  # fmt: skip
        targets = open_targets(load_settings(environ), plan.targets, environ)
        assert targets.keys() == {"election-data"}
        target = targets["election-data"]
        assert (target.base_url, target.header) == ("https://data.example.com", ("Authorization", "Bearer canary-one"))
        assert "canary" not in repr(target)
        with pytest.raises(ConfigurationError) as refused:
            open_targets(load_settings(environ), plan.targets, {**environ, "ELECTION_DATA_SECRET": ""})
        assert refused.value.problems == [
            "ELECTION_DATA_SECRET is not set, but the target election-data of SCHEDULES_FILE needs it; for example ELECTION_DATA_SECRET=a-long-random-text"
        ]

    def test_the_backend_is_a_target_when_it_is_set(self) -> None:
        environ = {
            "DATABASE_URL": "postgresql:///app",
            "BACKEND_URL": "https://b.example.com",
            "WORKER_API_KEY": "canary-key",
        }
        (target,) = open_targets(load_settings(environ), [], environ).values()
        assert (target.name, target.header) == ("backend", ("Authorization", "users API-Key canary-key"))
        assert open_targets(load_settings({"DATABASE_URL": "postgresql:///app"}), [], {}) == {}

    def test_a_secret_may_be_a_credential(self, write: Callable[[str], Path], tmp_path: Path) -> None:
        (tmp_path / "ELECTION_DATA_SECRET").write_text("from-a-file\n")
        environ = {
            "DATABASE_URL": "postgresql:///app",
            "ELECTION_DATA_URL": "https://d.example.com",
            "CREDENTIALS_DIRECTORY": os.fspath(tmp_path),
        }
        plan = read_plan(write(packaged("election-data.toml")))
        (target,) = open_targets(load_settings({"DATABASE_URL": "postgresql:///app"}), plan.targets, environ).values()
        assert target.header == ("Authorization", "Bearer from-a-file")


def test_a_file_takes_the_place_of_the_defaults(write: Callable[[str], Path]) -> None:
    assert entries(write('[schedules.a]\nevery = "1m"\nkind = "heartbeat"')).keys() == {"a"}


def test_or_adds_to_them(write: Callable[[str], Path]) -> None:
    found = entries(write('include_defaults = true\n[schedules.heartbeat]\nevery = "2m"\nkind = "heartbeat"'))
    assert found["heartbeat"].every_seconds == 120
    assert "data-archival" in found


def test_everything_an_entry_can_say(write: Callable[[str], Path]) -> None:
    text = """
    [schedules.a]
    cron = "*/5 * * * *"
    timezone = "Europe/Bucharest"
    kind = "report"
    payload = { list = [1, 2], deep = { x = true } }
    missed = "catch_up"
    catch_up_max = 3
    grace = "5m"
    overlap = "allow"
    jitter = "90s"
    retries = 0
    enabled = false
    """
    assert entries(write(text))["a"] == ScheduleEntry(
        name="a", cron="*/5 * * * *", timezone="Europe/Bucharest", kind="report", payload={"list": [1, 2], "deep": {"x": True}},
        missed="catch_up", catch_up=3, grace_seconds=300, overlap="allow", jitter_seconds=90, max_retries=0, enabled=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("schedules = 1", "schedules must be tables"),
        ("[schedules]\na = 1", "schedules.a must be a table"),
        ('[schedules."a b"]\nevery = "1m"\nkind = "x"', "'a b' must be letters"),
        ("[schedule.a]", "'schedule'"),
        ("include_defaults = 1", "include_defaults must be true or false"),
        ('[schedules.a]\nkind = "x"', "either cron or every"),
        ('[schedules.a]\ncron = "* * * * *"\nevery = "1m"\nkind = "x"', "either cron or every"),
        ('[schedules.a]\ncron = "@reboot"\nkind = "x"', "@reboot"),
        ('[schedules.a]\ncron = "every day"\nkind = "x"', "five fields"),
        ('[schedules.a]\nevery = 15\nkind = "x"', "every must be text"),
        ('[schedules.a]\nevery = "15"\nkind = "x"', "every must be a length"),
        ('[schedules.a]\nevery = "400d"\nkind = "x"', "every must be from 1s to 366d"),
        ('[schedules.a]\nevery = "0s"\nkind = "x"', "every must be from 1s"),
        ('[schedules.a]\nevery = "1m"\ntimezone = "Mars/Olympus"\nkind = "x"', "timezone must be"),
        ('[schedules.a]\ncron = "* * * * *"\nscaled = true\nkind = "x"', "scaled is for entries with every"),
        ('[schedules.a]\nevery = "1m"', "either kind or post"),
        ('[schedules.a]\nevery = "1m"\nkind = "x"\npost = "/y"', "either kind or post"),
        ('[schedules.a]\nevery = "1m"\nkind = "x"\njson = {}', "json, which goes with post"),
        ('[schedules.a]\nevery = "1m"\npost = "/x"\npayload = {}', "payload, which goes with kind"),
        ('[schedules.a]\nevery = "1m"\npost = "//evil.example.com/"', "one slash"),
        ('[schedules.a]\nevery = "1m"\npost = "https://evil.example.com/"', "one slash"),
        ('[schedules.a]\nevery = "1m"\npost = "/x\\r\\nX-Other: 1"', "one slash"),
        ('[schedules.a]\nevery = "1m"\npost = "@evil.example.com/"', "post must begin with one slash"),
        ('[schedules.a]\nevery = "1m"\npost = "/../x"', "post must not have . or .."),
        ('[schedules.a]\nevery = "1m"\npost = "/x"\ntarget = "elsewhere"', "does not have"),
        ('[schedules.a]\nevery = "1m"\nkind = "x"\nmissed = "sometimes"', "missed must be one of"),
        ('[schedules.a]\nevery = "1m"\nkind = "x"\noverlap = "maybe"', "overlap must be one of"),
        ('[schedules.a]\nevery = "1m"\nkind = "x"\nretries = -1', "retries must be"),
        ('[schedules.a]\nevery = "1m"\nkind = "x"\ncatch_up_max = 0', "catch_up_max must be"),
        ('[schedules.a]\nevery = "1m"\nkind = "x"\nenabled = "no"', "enabled must be true or false"),
        ('[schedules.a]\nevery = "1m"\nkind = "x"\npayload = { at = 2026-01-01 }', "what JSON can"),
        ('[schedules.a]\nevery = "1m"\nkind = "x"\ncolour = "red"', "'colour'"),
        ('[targets.backend]\nbase_url = "https://x.example.com"', "BACKEND_URL"),
        ("[targets.t]", "either base_url or base_url_variable"),
        ('[targets.t]\nbase_url = "ftp://x"', "http:// or https://"),
        ('[targets.t]\nbase_url = "https://user:password@x.example.com"', "must not carry a user name"),
        ('[targets.t]\nbase_url = "https://x.example.com"\nheader = "nonsense"', "a name and a value"),
        ('[targets.t]\nbase_url = "https://x.example.com"\nsecret_variable = "S"', "both a header with {secret}"),
        ('[targets.t]\nbase_url_variable = "lower"', "in capitals"),
        ("not toml", "is not TOML"),
    ],
)  # fmt: skip
def test_faults(write: Callable[[str], Path], text: str, complaint: str) -> None:
    (problem,) = problems(write(text))
    assert problem.startswith("SCHEDULES_FILE ")
    assert complaint in problem
    assert "; for example " in problem


def test_all_faults_at_once(write: Callable[[str], Path]) -> None:
    found = problems(write('[schedules.a]\nkind = "x"\n[schedules.b]\nevery = "1m"\n[targets.t]\n'))
    assert [line.split(" ")[2] for line in found] == ["[schedules.a]", "[schedules.b]", "[targets.t]"]


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in problems(path)[0]


class TestWithoutTheSystemsTimeZones:
    """On an image without a time zone database, as slim ones are."""

    def run(self, folder: Path, code: str) -> str:
        """What `code` prints where the system has no time zones."""
        environment = {**os.environ, "PYTHONTZPATH": str(folder)}
        command = [sys.executable, "-c", f"from jobqueue.schedule.schedules_file import read_plan\n{code}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.strip()

    def test_utc_needs_none(self, tmp_path: Path) -> None:
        count = self.run(tmp_path, "import sys; sys.modules['tzdata'] = None; print(len(read_plan(None).entries))")
        assert int(count) == len(entries())

    def test_what_is_missing_is_said(self, tmp_path: Path, write: Callable[[str], Path]) -> None:
        path = write('[schedules.a]\ncron = "0 3 * * *"\ntimezone = "Europe/Bucharest"\nkind = "x"')
        (tmp_path / "none").mkdir()
        said = self.run(
            tmp_path / "none",
            "import sys; sys.modules['tzdata'] = None\nfrom pathlib import Path\n"
            f"try: read_plan(Path({str(path)!r}))\nexcept Exception as error: print(error)",
        )
        assert "timezone cannot be Europe/Bucharest: this machine has no time zone database" in said
        assert "install the Python package tzdata" in said

    def test_other_zones_come_with_a_dependency(self, tmp_path: Path) -> None:
        read = "from jobqueue.schedule.schedule_rules import zone; print(zone('Europe/Bucharest'))"
        assert self.run(tmp_path, read) == "Europe/Bucharest"
