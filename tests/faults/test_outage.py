from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future


def test_fifty_jobs_survive_twenty_seconds_without_a_database(outage: Future[None]) -> None:
    """See `tests.faults.outage`."""
    outage.result(timeout=120)
