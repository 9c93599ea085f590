"""The claimer: order, lanes, delays and fairness, turned by hand; what there is capacity for is in test_capacity.py."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import eventually

from jobqueue.kernel import Queue
from jobqueue.kernel.database.rows import LaneFloors

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig


def nothing(*_: Any) -> None:
    """A handler; the engine does not call it."""


JOBS = Queue("jobs", nothing)


def test_higher_priorities_come_first_and_equal_ones_in_the_order_of_insertion(rig: Rig) -> None:
    expected = [rig.insert(2, priority=priority) for priority in (5, 9, -1, 7, 5)]
    engine = rig.engine(JOBS, size=2)
    ids = [job.id for job in engine.work_off()]
    assert ids == expected[1] + expected[3] + expected[0] + expected[4] + expected[2]


def test_extreme_priorities_are_found(rig: Rig) -> None:
    lowest, highest = rig.insert(priority=-(2**31)), rig.insert(priority=2**31 - 1)
    assert [job.id for job in rig.engine(JOBS).work_off()] == highest + lowest


def test_priorities_beyond_what_an_int_holds_are_found_in_a_table_that_has_them(rig: Rig) -> None:
    rig.sql.execute(b"CREATE TABLE work (id bigint PRIMARY KEY, priority bigint); SELECT jobqueue.adopt('work')")
    rig.insert(1, "work", id=1, priority=10**12)
    assert [job.id for job in rig.engine(Queue("work", nothing)).work_off()] == [1]


def test_more_lanes_than_are_kept_are_all_worked_off(rig: Rig) -> None:
    rig.insert(200, priority="=generate_series")
    jobs = rig.engine(JOBS, size=50).work_off()
    assert [job.priority for job in jobs] == sorted((job.priority for job in jobs), reverse=True)
    assert len(jobs) == 200


def test_a_new_lane_is_found_while_another_has_a_backlog(rig: Rig) -> None:
    rig.insert(50, priority=5)
    engine = rig.engine(JOBS, size=2)
    engine.turn(3)
    [urgent] = rig.insert(priority=8)
    engine.claimer._sources[0].surveyed_at -= 1.0  # a second later
    engine.end_all()
    engine.turn(2)
    engine.end_all()
    assert urgent in [job.id for job in engine.turn(2)]


def test_several_queues_take_turns(rig: Rig) -> None:
    rig.table("work")
    rig.insert(100, "work", id="=generate_series")
    rig.insert(100)
    engine = rig.engine(Queue("work", nothing), JOBS, size=1)
    served = []
    for _ in range(20):
        served += [job.queue for job in engine.turn(3)]
        engine.end_all()
    assert abs(served.count("work") - served.count("jobs")) <= 6


def test_a_delayed_job_begins_when_its_time_has_come_and_not_before(rig: Rig) -> None:
    rig.insert(1, run_after="=now() + interval '1 hour'")
    [soon] = rig.insert(1, run_after="=clock_timestamp() + interval '0.5 s'")
    engine = rig.engine(JOBS)
    assert engine.turn(3) == []
    assert 0 < engine.claimer.turn() <= 0.5
    assert [job.id for job in eventually(engine.turn)] == [soon]
    assert rig.value("SELECT started_at >= run_after FROM jobs WHERE id = %s", soon)


def test_delayed_jobs_that_are_due_begin_in_the_order_of_their_time(rig: Rig) -> None:
    late = rig.insert(1, run_after="=now() + interval '2 hours'")
    early = rig.insert(1, run_after="=now() + interval '1 hour'")
    # As if two hours had passed: host updates of run_after draw a position at once, which is not meant here.
    rig.sql.execute(b"SET session_replication_role = replica")
    rig.sql.execute(b"UPDATE jobs SET run_after = run_after - interval '3 hours'")
    rig.sql.execute(b"SET session_replication_role = origin")
    assert [job.id for job in rig.engine(JOBS, size=1).work_off()] == early + late


def test_a_host_brings_a_delayed_job_forward(rig: Rig) -> None:
    [job] = rig.insert(1, run_after="=now() + interval '1 hour'")
    rig.sql.execute(b"UPDATE jobs SET run_after = now()")
    assert [one.id for one in rig.engine(JOBS).work_off()] == [job]


def test_jobs_parked_for_ever_and_due_since_ever(rig: Rig) -> None:
    rig.insert(1, run_after="infinity")
    [job] = rig.insert(1, run_after="-infinity")
    engine = rig.engine(JOBS)
    depth = rig.store().measure(rig.link, LaneFloors([5], [0]))
    [begun] = engine.work_off()
    assert begun.id == job
    assert [begun.waited, depth.oldest_due] == pytest.approx([365 * 86_400] * 2, rel=0.01)
    assert engine.claimer.idle


def test_a_host_puts_a_due_job_off(rig: Rig) -> None:
    rig.insert()
    rig.sql.execute(b"UPDATE jobs SET run_after = now() + interval '1 hour'")
    assert rig.engine(JOBS).work_off() == []


def test_a_transaction_that_commits_late_with_an_early_position_is_found(rig: Rig) -> None:
    late = rig.connect(autocommit=False)
    late.execute(b"INSERT INTO jobs (kind) VALUES ('late')")
    # So many later ones are claimed that the early position lies below the fast floor.
    rig.insert(1_500)
    engine = rig.engine(JOBS, size=100)
    assert len(engine.work_off()) == 1_500
    [_], [floor] = engine.claimer._sources[0].lanes.claim_from()
    position = late.execute(b"SELECT position FROM jobs WHERE kind = 'late'").fetchall()[0][0]
    assert position < floor
    late.commit()
    engine.claimer.notify("jobs")
    assert len(engine.work_off()) == 1


def test_the_safe_floor_waits_for_a_transaction_that_is_open_and_rises_when_it_ends(rig: Rig) -> None:
    late = rig.connect(autocommit=False)
    late.execute(b"INSERT INTO jobs (kind) VALUES ('late')")
    rig.insert(10)
    engine = rig.engine(JOBS, size=20)
    lanes = engine.claimer._sources[0].lanes

    def look() -> int:
        engine.claimer.notify(None)
        engine.turn(2)
        return lanes.survey_from()[1][0]

    assert [look() for _ in range(4)] == [0] * 4
    late.rollback()
    assert eventually(look, 2.0) >= 10


def test_an_open_transaction_that_locks_a_job_does_not_stop_the_others(rig: Rig) -> None:
    locked, *others = rig.insert(5)
    host = rig.connect(autocommit=False)
    host.execute(b"SELECT FROM jobs WHERE id = %s FOR UPDATE", [locked])
    engine = rig.engine(JOBS, size=1)
    assert [job.id for job in engine.work_off()] == others
    host.rollback()
    engine.claimer.notify(None)
    assert [job.id for job in engine.work_off()] == [locked]


def test_a_claim_whose_answer_was_lost_is_given_back_without_a_charge(rig: Rig) -> None:
    [id_] = rig.insert()
    engine = rig.engine(JOBS)
    claimer = engine.claimer
    [store] = engine.completer._stores.values()
    # Exactly what a connection lost after the commit leaves behind: the rows are leased, nobody knows of it.
    [job] = rig.claim()
    claimer._lost_claims.add(store, job.token)
    [again] = engine.turn(3)
    assert (again.id, again.attempt) == (id_, 1)
    assert again.token != job.token


def test_a_claim_that_comes_back_after_the_order_to_stop_is_given_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.insert(3)
    engine = rig.engine(JOBS)
    store = engine.claimer._sources[0].store
    claim = store.claim

    def slow(*args: Any) -> Any:
        leased = claim(*args)
        if leased:
            engine.claimer.close(0.0)
        return leased

    monkeypatch.setattr(store, "claim", slow)
    rests = [engine.claimer.turn() for _ in range(2)]
    assert engine.claimer._closed.is_set()
    assert rig.states() == {"processing": 3}
    assert rests[-1] == 0.0
    engine.claimer.turn()
    assert rig.states() == {"pending": 3}
    assert engine.begun == []
    engine.claimer.turn()
    assert rig.states() == {"pending": 3}
    assert rig.value("SELECT sum(retry_count) FROM jobs") == 0


def suspect(rig: Rig, **columns: Any) -> int:
    """A job that has killed its worker twice."""
    [id_] = rig.insert(1, crash_count=2, retry_count=2, **columns)
    return int(id_)


def test_a_suspect_runs_alone_and_its_neighbours_before_and_after_it(rig: Rig) -> None:
    others = rig.insert(4)
    engine = rig.engine(JOBS, size=8)
    assert sorted(job.id for job in engine.turn(3)) == others
    bad = suspect(rig)
    engine.claimer.notify("jobs")
    engine.turn()
    late = rig.insert(4)
    # Once the suspect is known, nothing is claimed until the pool has run empty.
    engine.end(engine.begun[0])
    assert engine.turn(3) == []
    engine.end_all()
    assert [job.id for job in engine.turn(3)] == [bad]
    assert engine.turn(3) == []
    engine.end_all()
    assert sorted(job.id for job in engine.turn(3)) == late
    assert rig.row(bad)["status"] == "completed"


def test_between_suspects_the_others_get_their_time_and_the_claimer_its_rest(rig: Rig) -> None:
    first, second = suspect(rig), suspect(rig)
    engine = rig.engine(JOBS, size=2)
    assert [job.id for job in engine.turn(3)] == [first]
    engine.end_all()
    [other] = rig.insert()
    engine.claimer.notify(None)
    assert [job.id for job in engine.turn(3)] == [other]
    engine.end_all()
    rest = engine.claimer.turn()
    assert 0.1 < rest <= 1.0
    engine.claimer._next_suspect_at = time.monotonic()
    assert [job.id for job in engine.turn(3)] == [second]


def test_a_delayed_suspect_waits_for_its_time(rig: Rig) -> None:
    suspect(rig, run_after="=now() + interval '1 hour'")
    engine = rig.engine(JOBS)
    assert engine.turn(4) == []
    assert engine.claimer.idle


def test_idle_is_when_nothing_is_due(rig: Rig) -> None:
    engine = rig.engine(JOBS)
    seen = [engine.claimer.idle]
    engine.turn(3)
    seen.append(engine.claimer.idle)
    for queue in ("another", "jobs"):
        engine.claimer.notify(queue)
        seen.append(engine.claimer.idle)
    assert seen == [False, True, True, False]


def test_behind_a_pooler_another_server_may_have_drawn_fewer_positions(rig: Rig) -> None:
    """Nobody tells of it: the connection to the pooler stays. What was known of lanes is of the server that is gone."""
    engine = rig.engine(JOBS)
    rig.insert()
    engine.work_off()
    source = engine.claimer._sources[0]
    far = 10**9
    source.lanes.mark(far, 0)
    source.lanes.surveyed([5], [None], [], 10**9)
    rig.insert()
    assert engine.turn() == [], "its position lies below what the lanes start from"
    assert source.server is not None
    source.server -= 1.0
    source.asked = True
    # One turn notices, one finds the lane, one claims.
    assert len(engine.turn(3)) == 1
