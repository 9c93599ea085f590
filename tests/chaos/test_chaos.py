"""A short run of what `python -m tests.chaos` does for as long as it is told to."""

from __future__ import annotations

import pytest
from tests.chaos.plan import KINDS, make_plan
from tests.chaos.run import Options, Run

from jobqueue.demo.embedded_postgres import install_prefix
from jobqueue.demo.leash import ServerError
from jobqueue.demo.object_store import rclone

# Of this seed's faults, in so short a time, each kind is one.
SHORT = Options(22, seconds=12, jobs=400, workers=3, lease=2, forgotten_after=4.0, batch=200, rounds=1, patience=75.0)


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.faults
def test_the_ledger_is_exact_after_a_short_run() -> None:
    try:
        install_prefix()
        rclone()
    except ServerError as missing:
        pytest.skip(str(missing))
    plan = make_plan(SHORT.seed, SHORT.seconds, workers=SHORT.workers, proxied=SHORT.workers // 2, lease=SHORT.lease)
    assert {fault.kind for fault in plan} == set(KINDS)
    said: list[str] = []
    report = Run(SHORT, said.append).run()
    assert report.problems == [], "\n".join([*said, f"the logs are in {report.logs}"])
    # The rates of so short a run say nothing about recovery.
    assert report.before
    assert report.after
