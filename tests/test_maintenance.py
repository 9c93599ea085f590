"""The three kinds of work in a real worker: what becomes of their jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.daemon import Launch, launching
from tests.support.host import Host, migrated
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture
def host(postgres: Postgres) -> Iterator[Host]:
    with Host(postgres.dsn_of(migrated(postgres))) as host:
        yield host


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    with launching(tmp_path) as launch:
        yield launch


@pytest.mark.slow
def test_each_is_done_or_says_why_not(host: Host, launch: Launch) -> None:
    host.execute(
        "INSERT INTO platform_notifications (user_id, expires_at) SELECT 'u', now() FROM generate_series(1, 30)"
    )
    host.execute("INSERT INTO platform_events (created_at) SELECT '2020-01-01' FROM generate_series(1, 30)")
    kinds = ("webhook-retry", "notification-expiry", "data-archival")
    for kind in kinds:
        host.execute("INSERT INTO jobs (kind) VALUES (%(k)s)", k=kind)
    daemon = launch({"DATABASE_URL": host.dsn, "PORT": "0", "SCHEDULER_IS_PRIMARY": "false"}, "--queue", "jobs")
    tried = "SELECT kind, status, error_message FROM jobs WHERE completed_at IS NOT NULL OR retry_count > 0 ORDER BY id"
    retried, expired, archived = eventually(lambda: rows if len(rows := host.rows(tried)) == 3 else [])
    assert (retried["status"], expired["status"], archived["status"]) == ("completed", "completed", "pending")
    assert "ARCHIVE_BEFORE_DELETE=false" in archived["error_message"]
    assert len(host.rows("SELECT FROM notification_state WHERE status = 'expired'")) == 30
    assert len(host.rows("SELECT FROM platform_events")) == 30
    daemon.stop()

    host.execute("UPDATE jobs SET run_after = now() WHERE status = 'pending'")
    environment = {"DATABASE_URL": host.dsn, "PORT": "0", "SCHEDULER_IS_PRIMARY": "false"}
    launch({**environment, "ARCHIVE_BEFORE_DELETE": "false"}, "--queue", "jobs")
    eventually(lambda: host.rows("SELECT FROM jobs WHERE kind = 'data-archival' AND status = 'completed'"))
    assert host.rows("SELECT FROM platform_events") == []
