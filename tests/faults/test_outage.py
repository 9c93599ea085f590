"""The database goes away, without warning and for a while, in the middle of the work."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.daemon import worker_environment
from tests.support.host import Host
from tests.support.jpeg import picture
from tests.support.origin import SteadyOrigin
from tests.support.roles import let_in
from tests.support.servers import make_server
from tests.support.waiting import eventually

from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Launch
    from tests.support.s3 import Bucket

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.faults]

JOBS = 50
OUTAGE_SECONDS = 20.0


@pytest.fixture
def postgres(server_folder: Path) -> Iterator[Postgres]:
    """A server of the test's own, which may crash."""
    with make_server(server_folder / "outage", careless=False) as postgres:
        migrate(postgres.dsn)
        let_in(postgres.dsn)
        yield postgres


@pytest.mark.extended
def test_fifty_jobs_survive_twenty_seconds_without_a_database(
    postgres: Postgres, bucket: Bucket, launch: Launch
) -> None:
    files = {f"photo-{n}": picture(1000 + n, 160, 120) for n in range(JOBS)}
    with SteadyOrigin(files) as origin:
        with Host(postgres.dsn) as host, closing(psycopg.connect(postgres.dsn)) as lock:
            jobs = [host.enqueue(key) for key in files]
            # When the database goes away two jobs are downloading and one is committing.
            downloading, committing = ("photo-20", "photo-21"), "photo-22"
            for key in downloading:
                origin.hold[key] = 1
            lock.execute("SELECT FROM auction_files WHERE source_key = %s FOR UPDATE", [committing])
            worker = launch(worker_environment(host.dsn, origin, bucket, WORKER_POLL_INTERVAL=1000, CONCURRENCY=3))
            waits = (
                "SELECT FROM pg_stat_activity WHERE application_name = 'jobqueue:handler' AND wait_event_type = 'Lock'"
            )
            eventually(lambda: origin.holding == 2 and host.rows(waits), 30)
            assert host.states() == {"completed": 20, "processing": 3, "pending": JOBS - 23}
            postgres.stop("immediate")
        origin.release()
        # The length of the outage is what is tested.
        threading.Event().wait(OUTAGE_SECONDS)
        assert worker.running
        assert len(worker.log("job_finished", queue="publish_jobs")) == 20
        postgres.start()

        with Host(postgres.dsn) as host:
            eventually(lambda: host.states() == {"completed": JOBS}, 40, interval=0.05)
            assert {row["retry_count"] for row in host.rows("SELECT retry_count FROM publish_jobs")} == {0}
            assert {row["publish_status"] for row in host.rows("SELECT publish_status FROM auction_files")} == {
                "published"
            }
            assert bucket.contents() == host.named_keys()
        # One end for each job, and one download: what was in flight went on where it stood.
        worker.wait_for("job_finished", count=JOBS, queue="publish_jobs")
        finished = worker.log("job_finished", queue="publish_jobs")
        ends = Counter((entry["job_id"], entry["outcome"]) for entry in finished)
        assert ends == {(str(job), "completed"): 1 for job in jobs}
        assert origin.asked == dict.fromkeys(files, 1)
        assert worker.log("database_away")
        assert worker.log("database_back")
        assert worker.log(level="error") == []
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
