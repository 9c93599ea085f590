"""Counts at the end of their column's type: one such row never stops a statement that serves all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig

TYPES = {"smallint": 2**15 - 1, "int": 2**31 - 1, "bigint": 2**63 - 1}


@pytest.fixture(params=TYPES)
def end(request: pytest.FixtureRequest, rig: Rig) -> int:
    """A queue called `work` whose counts have this type; the largest number of it."""
    type_ = request.param
    rig.sql.execute(
        f"""CREATE TABLE work (id bigint PRIMARY KEY, retry_count {type_} NOT NULL DEFAULT 0, max_retries {type_} NOT NULL DEFAULT 5,
                               crash_count {type_} NOT NULL DEFAULT 0);
            SELECT jobqueue.adopt('work')""".encode()
    )
    return TYPES[type_]


def insert(rig: Rig, *rows: tuple[int, int, int, int]) -> None:
    for row in rows:
        rig.sql.execute(b"INSERT INTO work (id, retry_count, max_retries, crash_count) VALUES (%s, %s, %s, %s)", row)


def counts(rig: Rig) -> list[tuple[Any, ...]]:
    return rig.rows("SELECT status, retry_count, max_retries, crash_count FROM work ORDER BY id")


def test_a_rescue_takes_such_a_job_with_the_others(rig: Rig, end: int) -> None:
    insert(rig, (1, 0, 5, 0), (2, end, end, 0), (3, 0, 5, 0))
    assert len(rig.claim(queue="work")) == 3
    rig.sql.execute(b"UPDATE work SET crash_count = %s WHERE id = 2", [end])
    rig.sql.execute(b"UPDATE work SET lease_expires_at = now() - interval '1 s'")
    rescued = rig.store("work").rescue(rig.link, 0.0)
    assert {one.id: one.failed for one in rescued} == {1: False, 2: True, 3: False}
    assert counts(rig) == [("pending", 1, 5, 1), ("failed", end, end, end), ("pending", 1, 5, 1)]


@pytest.mark.extended
@pytest.mark.parametrize("verb", ["retry", "fail", "snooze", "release", "complete"])
def test_an_outcome_of_such_a_job_is_recorded_with_the_others(rig: Rig, end: int, verb: str) -> None:
    insert(rig, (1, 0, 5, 0), (2, end, end, 0), (3, end - 1, end, 0))
    jobs, store = rig.claim(queue="work"), rig.store("work")
    match verb:
        case "retry":
            assert store.retry(rig.link, jobs, [0.0] * 3, ["x"] * 3) == {1: False, 2: True, 3: True}
        case "fail":
            assert store.fail(rig.link, jobs, ["x"] * 3) == {1, 2, 3}
        case "snooze":
            assert store.snooze(rig.link, jobs, [0.0] * 3, ["x"] * 3) == {1, 2, 3}
        case _:
            assert getattr(store, verb)(rig.link, jobs) == {1, 2, 3}


def test_a_suspect_with_such_counts_runs_alone_and_is_surveyed(rig: Rig, end: int) -> None:
    insert(rig, (1, end, end, 1), (2, 0, end, end))
    ran: list[Any] = []
    rig.run_once(lambda job, _: ran.append(job.id), "work", poll_seconds=0.2)
    assert sorted(ran) == [1, 2]


def test_a_count_is_never_lowered(rig: Rig) -> None:
    rig.insert(1, retry_count=100_000, max_retries=200_000)
    assert rig.store().retry(rig.link, rig.claim(), [0.0], ["x"])
    assert rig.rows("SELECT retry_count FROM jobs") == [(100_001,)]


@pytest.mark.parametrize(("retries", "most", "ends"), [(0, 5, 5), (2, 5, 5), (7, 5, 8)])
def test_a_permanent_failure_leaves_no_attempt(rig: Rig, retries: int, most: int, ends: int) -> None:
    rig.insert(1, retry_count=retries, max_retries=most)
    assert rig.store().fail(rig.link, rig.claim(), ["it is no picture"])
    assert rig.rows("SELECT status, retry_count FROM jobs WHERE retry_count >= max_retries") == [("failed", ends)]
    rig.sql.execute(b"UPDATE jobs SET max_retries = 10 WHERE status = 'failed'")
    assert rig.states() == {"pending": 1}
