"""Hundreds of events to twenty webhooks, most of which misbehave, while a daemon is killed: nobody misses anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bench.receivers import SLOW_SECONDS
from bench.webhooks import Options, run
from tests.support.daemon import launching
from tests.support.http_server import FaultyServer, hang, reply
from tests.support.waiting import Stopwatch, eventually
from tests.webhooks.helpers import Yard

from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.mark.extended
def test_live_endpoints_get_every_event_in_time_although_others_are_dead_or_slow_and_a_daemon_is_killed(
    database: str, tmp_path: Path
) -> None:
    migrate(database)
    with Stopwatch() as watch:
        # A rate that leaves the processor room: what is measured is the way through the queue, not the machine. The slow ones
        # alone still want twice the slots that there are.
        report = run(
            Options(events=180, rate=12.0, concurrency=24, patience=40.0, wait_for_slow=False, wait_for_dead=False),
            database,
            tmp_path,
        )
    assert (report.missing, report.strangers, report.ids_of_duplicates_differ) == (0, 0, 0)
    assert report.states["live"] == {"completed": 8 * 180}
    # They do not wait for one answer of a slow one. Those that the killed daemon held, one in a hundred, wait longer.
    assert report.live_p95 < SLOW_SECONDS * watch.crowding
    assert set(report.states["gone"]) <= {"failed", "cancelled"}
    disabled = {hook["webhook"] for hook in report.webhooks if not hook["active"]}
    assert {"gone/0", "gone/1"} <= disabled
    # Nothing is lost: what did not arrive waits, or says why it does not.
    assert all(sum(states.values()) for states in report.states.values())
    assert not {hook for hook in disabled if hook.startswith(("live", "slow"))}


@pytest.mark.extended
def test_a_delivery_whose_daemon_was_killed_arrives_again_under_the_same_id(database: str, tmp_path: Path) -> None:
    migrate(database)
    yard = Yard(database)
    environment = {
        "DATABASE_URL": database, "PORT": "0", "LEASE_SECONDS": "2", "WORKER_POLL_INTERVAL": "200",
        "WEBHOOK_ALLOW_HTTP": "true", "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
    }  # fmt: skip
    with launching(tmp_path) as launch, FaultyServer(hang, reply(200)) as server:
        yard.deliver(yard.webhook(server.url))
        daemon = launch(environment, "--queue", "webhook_deliveries")
        assert eventually(lambda: len(server.requests) == 1)
        daemon.kill()
        launch(environment, "--queue", "webhook_deliveries")
        assert eventually(yard.ended, 15.0)
    first, second = server.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(yard.row()["id"])
    row = yard.row()
    assert (row["status"], row["retry_count"]) == ("completed", 1)
    yard.clear()
