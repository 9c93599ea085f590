"""Work through a transaction pooler, where no session outlives its transaction."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.faults.pooler import Pooler, program
from tests.support.daemon import worker_environment
from tests.support.host import Host
from tests.support.jpeg import picture
from tests.support.origin import SteadyOrigin
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Launch
    from tests.support.s3 import Bucket

pytestmark = [pytest.mark.slow, pytest.mark.servers]

JOBS = 12


@pytest.fixture
def host(database: str) -> Iterator[Host]:
    with Host(database) as host:
        yield host


@pytest.fixture
def pooler(server_folder: Path, host: Host) -> Iterator[Pooler]:
    if program() is None:
        assert "CI" not in os.environ, "CI must have pgbouncer"
        pytest.skip("pgbouncer is not installed")
    with Pooler(server_folder / f"pooler-{host.rows('SELECT current_database() AS d')[0]['d']}", host.dsn) as pooler:
        yield pooler


@pytest.mark.parametrize("direct", [True, False], ids=["with a direct address", "without one"])
def test_publishing_through_a_transaction_pooler(
    host: Host, pooler: Pooler, bucket: Bucket, launch: Launch, direct: bool
) -> None:
    """Without a direct address nothing can be listened for, and the worker polls."""
    files = {f"photo-{n}": picture(60 + n, 160, 120) for n in range(JOBS)}
    with SteadyOrigin(files) as origin:
        environment = worker_environment(
            pooler.dsn,
            origin,
            bucket,
            # With notifications the poll would come too late for this test, without them it is what finds the jobs.
            WORKER_POLL_INTERVAL=3_600_000 if direct else 500,
            LEASE_SECONDS=4,
            CONCURRENCY=4,
            **({"DATABASE_DIRECT_URL": host.dsn} if direct else {}),
        )
        worker = launch(environment)
        worker.wait_for("worker_started")
        backends = "SELECT count(DISTINCT pid) AS n FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
        held = next(iter(files))
        origin.hold[held] = 1
        for key in files:
            host.enqueue(key)
        eventually(lambda: host.states() == {"completed": JOBS - 1, "processing": 1}, 20)
        # One job lasts for longer than its lease, which is renewed through the pooler as well.
        expires = host.rows("SELECT lease_expires_at AS at FROM publish_jobs WHERE status = 'processing'")[0]["at"]
        eventually(lambda: host.rows("SELECT clock_timestamp() AS now")[0]["now"] > expires, interval=0.1)
        origin.release()
        eventually(lambda: host.states() == {"completed": JOBS})
        assert {row["retry_count"] for row in host.rows("SELECT retry_count FROM publish_jobs")} == {0}
        assert host.rows(backends)[0]["n"] <= 3 + 4, (
            "the pooler's; ours, the listener's, the heartbeat's, the schedules'"
        )
        assert worker.log(level="error") == []
        assert bool(worker.log("listener_deaf")) is not direct
        assert len(worker.log("job_finished", queue="publish_jobs", outcome="completed")) == JOBS
