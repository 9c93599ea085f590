"""There is no room for temporary files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.faults.crowded import CrowdedFolder
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

pytestmark = pytest.mark.slow

KIB = 1024


@pytest.fixture
def host(database: str) -> Iterator[Host]:
    with Host(database) as host:
        yield host


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[CrowdedFolder]:
    if why := CrowdedFolder.why_not(tmp_path / "tried"):
        assert "CI" not in os.environ or os.geteuid() != 0, why
        pytest.skip(why)
    with CrowdedFolder(tmp_path / "crowded", 1024 * KIB) as crowded:
        yield crowded


@pytest.mark.extended
@pytest.mark.parametrize("leave", [0, 16 * KIB], ids=["no room at all", "room for a part"])
def test_publishing_waits_for_room(
    host: Host, bucket: Bucket, launch: Launch, crowded: CrowdedFolder, leave: int
) -> None:
    files = {f"photo-{n}": picture(80 + n) for n in range(3)}
    assert all(len(data) > 2 * 16 * KIB for data in files.values())
    with SteadyOrigin(files) as origin:
        environment = worker_environment(host.dsn, origin, bucket, TMPDIR=crowded.path, WORKER_POLL_INTERVAL=500)
        worker = launch(environment)
        worker.wait_for("worker_started")
        before = crowded.files()
        crowded.fill(leave)
        jobs = [host.enqueue(key, max_retries=20) for key in files]
        # Whichever finds a part of the room taken by another fails all the same: none of them fits.
        eventually(lambda: all(host.job(job)["retry_count"] >= 1 for job in jobs), 30)
        for job in jobs:
            row = host.job(job)
            assert row["status"] in ("pending", "processing")
            assert "temporary folder" in row["error_message"]
            assert "No space left on device" in row["error_message"]
        assert bucket.contents() == set()
        eventually(lambda: not host.rows("SELECT FROM publish_jobs WHERE status = 'processing'"))
        assert crowded.files() == before

        crowded.clear()
        host.execute("UPDATE publish_jobs SET run_after = now()")
        eventually(lambda: host.states() == {"completed": len(jobs)}, 20)
        assert bucket.contents() == host.named_keys()
        assert len(bucket.contents()) == 2 * len(files)
        eventually(lambda: crowded.files() == before)
        assert worker.running
        assert worker.log(level="error") == []
