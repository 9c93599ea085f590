"""Fetching the backend's settings: by one process for all, and again when that failed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.http_server import FaultyServer, reply
from tests.support.waiting import eventually

from jobqueue.kernel.database.link import Link
from jobqueue.kernel.meter import Meter
from jobqueue.observe.metrics import Metrics
from jobqueue.schedule.settings_feed import SettingsFeed, ask_for_settings
from jobqueue.schedule.target_caller import Caller
from jobqueue.schedule.targets import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.schedule.helpers import Rig

PRODUCTION = {"enableJobs": True, "schedulerEnvironment": "production"}
DEV = {"enableJobs": True, "schedulerEnvironment": "dev"}


def says(settings: dict[str, Any]) -> Any:
    return reply(200, json.dumps(settings).encode())


class Feeding:
    def __init__(self, rig: Rig, server: FaultyServer) -> None:
        self.rig = rig
        self.server = server
        self.caller = Caller({"backend": Target("backend", server.url, None)})
        self.feeds: list[SettingsFeed] = []

    def feed(self) -> SettingsFeed:
        """A process's feed, to be turned by hand."""
        feed = SettingsFeed(Link(self.rig.dsn, "feed"), Meter(Metrics(), []), self.caller)
        self.feeds.append(feed)
        return feed

    @property
    def row(self) -> dict[str, Any]:
        return self.rig.rows("SELECT *, not_before - clock_timestamp() AS wait FROM jobqueue.backend_settings")[0]

    def due(self) -> None:
        self.rig.rows("UPDATE jobqueue.backend_settings SET not_before = clock_timestamp()")

    def close(self) -> None:
        self.caller.close()
        for feed in self.feeds:
            feed.link.close()


@pytest.fixture
def feeding(rig: Rig) -> Iterator[Feeding]:
    with FaultyServer(says(PRODUCTION)) as server:
        feeding = Feeding(rig, server)
        yield feeding
        feeding.close()


def test_fetched_at_the_start(feeding: Feeding) -> None:
    feeding.feed().turn()
    row = feeding.row
    assert (row["settings"], row["asked"], row["answered"]) == (PRODUCTION, 1, 1)


def test_processes_that_start_together_fetch_once(feeding: Feeding) -> None:
    feeds = [feeding.feed() for _ in range(4)]
    for _ in feeds:
        ask_for_settings(feeding.rig.link)
    for feed in feeds:
        feed.turn()
    assert len(feeding.server.requests) == 1
    # What was asked while that was going on is answered by one more, not by three.
    feeding.due()
    for feed in feeds:
        feed.turn()
    assert len(feeding.server.requests) == 2
    assert feeding.row["asked"] == feeding.row["answered"]


def test_nobody_fetches_what_nobody_asked_for(feeding: Feeding) -> None:
    feed = feeding.feed()
    feed.turn()
    feeding.due()
    feed.turn()
    assert len(feeding.server.requests) == 1


def test_a_failure_changes_nothing_and_says_so(feeding: Feeding) -> None:
    feed = feeding.feed()
    feed.turn()
    feeding.server.script(reply(503), reply(200, b"<html>"), says(DEV))
    ask_for_settings(feeding.rig.link)
    for failures, words in ((1, "503"), (2, "instead of its settings")):
        feeding.due()
        feed.turn()
        row = feeding.row
        assert (row["settings"], row["failures"]) == (PRODUCTION, failures)
        assert words in row["last_error"]
        assert row["asked"] > row["answered"]
        assert row["wait"].total_seconds() > 0
    feeding.due()
    feed.turn()
    row = feeding.row
    assert (row["settings"], row["failures"], row["last_error"]) == (DEV, 0, None)


def test_pauses_between_failures_grow_and_a_new_request_ends_them(feeding: Feeding) -> None:
    feeding.server.script(reply(503))
    feed = feeding.feed()
    waits = []
    for _ in range(7):
        feeding.due()
        feed.turn()
        waits.append(feeding.row["wait"].total_seconds())
    assert all(2**n * 0.4 < wait <= 2**n for n, wait in enumerate(waits))
    ask_for_settings(feeding.rig.link)
    assert feeding.row["wait"].total_seconds() <= 1


def test_the_loop_fetches_when_it_is_woken(feeding: Feeding) -> None:
    feed = feeding.feed()
    feed.start()
    eventually(lambda: feeding.row["settings"] == PRODUCTION)
    feeding.server.script(says(DEV))
    ask_for_settings(feeding.rig.link)
    feeding.due()
    feed.wake()
    eventually(lambda: feeding.row["settings"] == DEV)
    feed.stop()
    assert feed.join(5)
