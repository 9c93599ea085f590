"""PostgreSQL crashes in the midst of the work and is back at once; what it had promised to keep is what the disk holds."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.faults.ledger import Ledger, runs
from tests.support.servers import make_server
from tests.support.waiting import eventually

from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Launch

pytestmark = [pytest.mark.slow, pytest.mark.faults]

TIMES = 2


@pytest.mark.extended
def test_jobs_survive_crashes_of_the_database(server_folder: Path, launch: Launch) -> None:
    with make_server(server_folder / "crashed", careless=False) as postgres:
        migrate(postgres.dsn)
        with Ledger(postgres.dsn) as ledger:
            jobs = [job for how in ("commit", "write", "return") for job in ledger.insert(how, 50, seconds=0.05)]
            worker = ledger.start(launch, postgres.dsn)
        for crash in range(1, TIMES + 1):
            with Ledger.again(postgres.dsn) as ledger:
                enough = crash * len(jobs) / (TIMES + 1)
                eventually(lambda ledger=ledger, enough=enough: ledger.completed(jobs) >= enough, 20, interval=0.02)  # type: ignore[misc]
            postgres.restart("immediate")
        with Ledger.again(postgres.dsn) as ledger:
            ledger.wait(jobs, 30)
            ledger.check(jobs)
        # The process went on with what it had in hand: no job had to be begun again.
        assert runs(worker) == dict.fromkeys(jobs, 1)
        assert worker.log(level="error") == []
        assert worker.log("database_back")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
