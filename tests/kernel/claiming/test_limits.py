"""Limits over all processes: how many jobs may be leased at once, and how fast they may start."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.support.waiting import eventually

from jobqueue.kernel import Queue, Rate
from jobqueue.kernel.claiming.permits import limits_of, state_limits
from jobqueue.kernel.database.rows import LaneFloors, Limits

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Context, Job
    from jobqueue.kernel.database.rows import Permit
    from jobqueue.kernel.job import LeasedJob

TWO = Limits(2)

# One job in so many nanoseconds.
_SECOND = 1_000_000_000
_HOUR = 3600 * _SECOND


def nothing(*_: Any) -> None:
    """A handler; the engine does not call it."""


def claim(rig: Rig, limits: Limits, most: int = 100, back: float | None = None) -> tuple[list[LeasedJob], Permit]:
    return rig.store().claim_limited(rig.link, LaneFloors([5], [0]), most, uuid4(), "w", 60.0, limits, back)


def state(rig: Rig, limits: Limits, worker: str = "w") -> Limits:
    """Have a process state these limits."""
    state_limits(rig.link, "jobs", worker, limits)
    return limits


def test_no_more_jobs_are_leased_than_may_be_at_once(rig: Rig) -> None:
    rig.insert(5)
    jobs, permit = claim(rig, TWO)
    assert (len(jobs), permit.jobs) == (2, 2)
    assert claim(rig, TWO) == ([], (0, 0.5, False))
    rig.store().complete(rig.link, jobs[:1])
    assert len(claim(rig, TWO)[0]) == 1
    assert rig.states() == {"pending": 2, "processing": 2, "completed": 1}


def test_whatever_takes_a_job_out_of_work_frees_its_permit(rig: Rig) -> None:
    rig.insert(9)
    (first, second), _ = claim(rig, TWO)
    rig.rows("UPDATE jobs SET status = 'cancelled' WHERE id = %s", first.id)
    rig.rows("DELETE FROM jobs WHERE id = %s", second.id)
    assert len(claim(rig, TWO)[0]) == 2


def test_a_lease_that_has_run_out_counts_until_it_is_taken_back(rig: Rig) -> None:
    """After a restart of the database its holder may be alive."""
    rig.insert(5)
    claim(rig, TWO)
    rig.rows("UPDATE jobs SET lease_expires_at = now() - interval '1 day' WHERE status = 'processing'")
    assert claim(rig, TWO) == ([], (0, 0.5, True))
    rig.store().rescue(rig.link, 0.0)
    assert len(claim(rig, TWO)[0]) == 2


def test_leases_behind_the_look_are_not_counted(rig: Rig) -> None:
    rig.insert(5)
    claim(rig, TWO)
    rig.rows("UPDATE jobs SET lease_expires_at = now() - interval '1 hour' WHERE status = 'processing'")
    assert claim(rig, TWO, back=3700.0)[0] == []
    assert len(claim(rig, TWO, back=60.0)[0]) == 2


def test_what_another_process_states_holds_for_all(rig: Rig) -> None:
    rig.insert(9)
    state(rig, Limits(1), "other")
    assert rig.claim() == []
    assert len(claim(rig, Limits(5))[0]) == 1
    state(rig, Limits(), "other")
    assert len(claim(rig, Limits(5))[0]) == 4


def test_what_a_process_stated_that_is_gone_does_not_hold(rig: Rig) -> None:
    rig.insert(9)
    state(rig, Limits(1), "other")
    rig.rows("UPDATE jobqueue.limits SET stated_at = now() - interval '1 hour'")
    assert len(claim(rig, TWO)[0]) == 2
    rig.rows("INSERT INTO jobqueue.workers (name, version, queues, concurrency) VALUES ('other', '', '{}', 1)")
    assert claim(rig, Limits(5))[0] == []
    rig.rows("UPDATE jobqueue.workers SET beat_at = now() - interval '1 hour'")
    state(rig, Limits())
    assert rig.rows("SELECT * FROM jobqueue.limits") == []
    assert len(rig.claim()) == 7


def test_jobs_start_evenly_and_a_rest_saves_up_no_more_than_the_burst(rig: Rig) -> None:
    rig.insert(9)
    limits = state(rig, Limits(None, _HOUR, 3))
    jobs, permit = claim(rig, limits, 2)
    assert (len(jobs), permit.jobs) == (2, 2)
    assert permit.again is not None
    assert permit.again <= 0
    jobs, permit = claim(rig, limits)
    assert len(jobs) == 1
    assert permit.again == pytest.approx(3600.0, abs=60.0)
    assert claim(rig, limits)[0] == []
    rig.rows('SELECT setval(\'jobqueue."rate jobs"\', last_value - %s) FROM jobqueue."rate jobs"', 2 * _HOUR)
    assert len(claim(rig, limits)[0]) == 2
    rig.rows("SELECT setval('jobqueue.\"rate jobs\"', 1)")
    assert len(claim(rig, limits)[0]) == 3


def test_what_was_permitted_and_not_used_is_left_to_others(rig: Rig) -> None:
    limits = state(rig, Limits(None, _HOUR, 3))
    assert claim(rig, limits)[1].jobs == 3
    rig.insert(1)
    assert len(claim(rig, limits)[0]) == 1
    assert claim(rig, limits)[1].jobs == 2


def test_a_claim_that_is_undone_takes_no_more_permits_than_it_had(rig: Rig) -> None:
    """The sequence is not undone: so many jobs fewer start, and never one more."""
    rig.insert(3)
    limits = state(rig, Limits(None, _HOUR, 1))
    query = rig.store()._sql.limited("claim_jobs", 1)
    params = {
        "priorities": [5], "floors": [0], "token": None, "worker": "w", "lease": 60.0, "back": None, "patience": "1000",
        **limits._asdict(),
    }  # fmt: skip
    with rig.connect(autocommit=False) as other:
        assert other.execute(query, params).fetchall()[0][3] is not None
        assert claim(rig, limits) == ([], (0, 0.005, False)), "somebody else is claiming"
        other.rollback()
    assert claim(rig, limits)[0] == []


def test_a_clock_that_was_set_back_holds_the_queue_up_for_no_longer_than_an_empty_bucket(rig: Rig) -> None:
    rig.insert(3)
    limits = state(rig, Limits(None, _SECOND, 2))
    claim(rig, limits)
    rig.rows('SELECT setval(\'jobqueue."rate jobs"\', last_value + %s) FROM jobqueue."rate jobs"', 5 * _HOUR)
    jobs, permit = claim(rig, limits)
    assert not jobs
    assert permit.again is not None
    assert permit.again <= 1.0


def test_who_states_other_limits_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    state(rig, Limits(1), "other")
    state(rig, TWO, "same")
    assert state_limits(rig.link, "jobs", "w", TWO) == ["other"]
    rig.worker(Queue("jobs", nothing))
    [line] = [record for record in caplog.records if record.message == "limits_differ"]
    assert line.fields["workers"] == ["other", "same", "w"]  # type: ignore[attr-defined]


def test_of_two_rates_the_slower_one_holds(rig: Rig) -> None:
    rig.insert(9)
    fast = state(rig, Limits(None, _SECOND, 5), "fast")
    slow = state(rig, Limits(None, _HOUR, 1), "slow")
    assert len(claim(rig, fast)[0]) == 1
    assert claim(rig, slow)[0] == []
    assert claim(rig, fast)[1].again == pytest.approx(3600.0, abs=60.0)


def test_queues_with_long_names_have_rates_of_their_own(rig: Rig) -> None:
    names = [rig.table("q" * 60 + end) for end in ("a", "b")]
    for name in names:
        rig.insert(2, name, id="=generate_series")
        store = rig.store(name)
        state_limits(rig.link, name, "w", Limits(None, _HOUR, 1))
        jobs, _ = store.claim_limited(
            rig.link, LaneFloors([5], [0]), 9, uuid4(), "w", 60.0, Limits(None, _HOUR, 1), None
        )
        assert len(jobs) == 1


def test_a_claimer_that_states_nothing_learns_what_others_do_and_forgets_it(rig: Rig) -> None:
    rig.insert(9)
    state(rig, TWO, "other")
    engine = rig.engine(Queue("jobs", nothing), size=8)
    assert len(engine.turn(3)) == 2
    assert engine.turn() == []
    assert 0 < engine.claimer.turn() <= 0.5, "another process may end a job: it looks again"
    engine.end_all()
    assert len(engine.turn()) == 2, "its own outcomes are no news to wait for"
    state(rig, Limits(), "other")
    engine.end_all()
    assert len(engine.turn(9)) == 5


@pytest.mark.extended
def test_a_suspect_needs_a_permit(rig: Rig) -> None:
    [suspect] = rig.insert(1, crash_count=2)
    rig.insert(1)
    held = rig.claim()
    engine = rig.engine(Queue("jobs", nothing, global_concurrency=1))
    assert engine.turn(3) == []
    rig.store().complete(rig.link, held)
    assert [job.id for job in eventually(engine.turn)] == [suspect]


def test_other_queues_do_not_wait_for_a_permit(rig: Rig) -> None:
    rig.table("work")
    rig.insert(9)
    rig.insert(9, "work", id="=generate_series")
    engine = rig.engine(Queue("jobs", nothing, global_concurrency=1), Queue("work", nothing), size=8)
    assert sorted(job.queue for job in engine.turn(9)) == ["jobs"] + ["work"] * 7


def test_workers_together_keep_to_a_number(rig: Rig) -> None:
    counting, now, most = threading.Lock(), 0, 0

    def handler(_job: Job, _context: Context) -> None:
        nonlocal now, most
        with counting:
            now += 1
            most = max(most, now)
        time.sleep(0.001)
        with counting:
            now -= 1

    queue = Queue("jobs", handler, global_concurrency=3)
    rig.insert(200)
    for _ in range(3):
        rig.worker(queue)
    eventually(lambda: rig.states() == {"completed": 200}, 30.0)
    assert most == 3


def test_workers_together_keep_to_a_rate(rig: Rig) -> None:
    rate = Rate(40)
    rig.insert(60)
    for _ in range(3):
        rig.worker(Queue("jobs", nothing, rate=rate))
    eventually(lambda: rig.states() == {"completed": 60}, 30.0)
    starts = [row[0] for row in rig.rows("SELECT extract(epoch FROM started_at) FROM jobs ORDER BY started_at")]
    # Any rate.burst + 1 jobs are apart by what the rate puts between two.
    for first, last in zip(starts, starts[rate.burst :], strict=False):
        assert last - first >= rate.interval / 1e9 - 1e-6
    assert all(later >= earlier for earlier, later in pairwise(starts))


def test_a_run_that_drains_waits_for_its_permits(rig: Rig) -> None:
    rig.insert(8)
    worker = rig.unstarted(Queue("jobs", nothing, rate=Rate(50), global_concurrency=1))
    assert worker.run_once(20.0)
    assert rig.states() == {"completed": 8}
    assert rig.rows("SELECT * FROM jobqueue.limits") == [], "a process that ends well states nothing any more"


def test_a_run_that_drains_does_not_wait_for_permits_that_nobody_needs(rig: Rig) -> None:
    rig.insert(1)
    assert rig.unstarted(Queue("jobs", nothing, rate=Rate(1, 3600.0))).run_once(20.0)
    assert rig.states() == {"completed": 1}


def test_limits_of_a_queue() -> None:
    assert limits_of(Queue("jobs", nothing)) == Limits()
    assert limits_of(Queue("jobs", nothing, global_concurrency=4)) == Limits(4)
    assert limits_of(Queue("jobs", nothing, rate=Rate(100))) == Limits(None, 10_000_000, 10)
