"""A killed worker's jobs run again long before their leases run out; those of a worker that only stands still do not."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.faults.ledger import Ledger, runs
from tests.support.waiting import eventually

from jobqueue.kernel.leasing.presence import BEAT_EVERY, GONE_AFTER

if TYPE_CHECKING:
    from tests.support.daemon import Launch

pytestmark = [pytest.mark.slow, pytest.mark.faults]

HOUR = 3600

# Seconds that a busy machine may add.
SLACK = 5.0


@pytest.mark.extended
def test_jobs_of_a_killed_worker_are_not_kept_by_their_leases(database: str, launch: Launch) -> None:
    with Ledger(database) as ledger:
        killed = ledger.start(launch, database, lease=HOUR)
        jobs = ledger.insert("commit", 2, seconds=HOUR)
        stopped = ledger.start(launch, database, lease=HOUR)
        other = ledger.insert("commit", 4, seconds=HOUR)
        eventually(lambda: len(killed.log("run_began")) + len(stopped.log("run_began")) == len(jobs + other))
        held = {entry["job_id"] for entry in killed.log("run_began")}
        kept = {entry["job_id"] for entry in stopped.log("run_began")}
        assert held
        assert kept
        ledger.execute("UPDATE jobs SET payload = payload || '{\"seconds\": 0}'")
        successor = ledger.start(launch, database, lease=HOUR)
        # Who has not seen the lock held cannot tell a death from a restart, and waits longer.
        looked = (
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'jobqueue:rescue' AND datname = current_database()"
            " AND query LIKE '-- The presence of every worker%%'"
        )
        seen: set[object] = set()

        def all_have_looked() -> bool:
            # The next statement of a session takes the place of its look in what the server tells.
            seen.update(row["pid"] for row in ledger.rows(looked))
            return len(seen) == 3

        eventually(all_have_looked)
        stopped.send(signal.SIGSTOP)
        try:
            killed.kill()
            killed_at = time.monotonic()
            # Both witnesses may be those that were killed and stopped: then the successor takes a seat at its next beat.
            ledger.wait(sorted(held), BEAT_EVERY + GONE_AFTER + SLACK)
            assert time.monotonic() - killed_at > GONE_AFTER
            ledger.check(sorted(held), retries=1)
            # The other stands still as long by now, and is none of those who are gone.
            assert ledger.completed(sorted(kept)) == 0
            assert set(runs(successor)) == held
            assert [entry["jobs"] for entry in successor.log("workers_gone")] == [len(held)]
        finally:
            stopped.send(signal.SIGCONT)
