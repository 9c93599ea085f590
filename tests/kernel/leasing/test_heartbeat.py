"""The heartbeat: renews what is held, learns what is lost, and waits for nobody."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from tests.support.waiting import eventually

from jobqueue.kernel import Queue
from jobqueue.kernel.database.link import Link
from jobqueue.kernel.leasing import strays
from jobqueue.kernel.leasing.heartbeat import Heartbeat
from jobqueue.kernel.leasing.leases import Leases
from jobqueue.kernel.leasing.presence import FENCED_AFTER, PING_EVERY
from jobqueue.kernel.meter import Meter
from jobqueue.observe.metrics import Metrics

if TYPE_CHECKING:
    import pytest
    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Job
    from jobqueue.kernel.job import LeasedJob


def introduce() -> dict[str, Any]:
    return {
        "name": "w",
        "version": "1",
        "queues": ["jobs"],
        "concurrency": 2,
        "in_flight": 1,
        "draining": False,
    }


def heartbeat(rig: Rig, *jobs: LeasedJob, lease: float = 60.0) -> Heartbeat:
    """A heartbeat that the test turns by hand."""
    leases = Leases(lease)
    leases.hold(jobs)
    return Heartbeat(rig.link, Meter(Metrics(), ["jobs"]), {"jobs": rig.store()}, leases, introduce)


def left(rig: Rig, id_: int) -> float:
    return float(
        rig.value("SELECT extract(epoch FROM lease_expires_at - clock_timestamp()) FROM jobs WHERE id = %s", id_)
    )


def test_a_lease_is_renewed_once_an_eighth_of_it_has_passed(rig: Rig) -> None:
    rig.insert(2)
    fresh, older = rig.claim(lease=20.0)
    beat = heartbeat(rig, fresh, older)
    beat.turn()
    rig.sql.execute(b"UPDATE jobs SET lease_expires_at = clock_timestamp() + interval '20 s'")
    older.renewed_at -= 8.0
    beat.beat()
    rest = beat.turn()
    assert left(rig, fresh.id) < 21 < 59 < left(rig, older.id)
    assert PING_EVERY / 2 < rest <= PING_EVERY


def test_when_asked_it_looks_at_every_lease_and_finds_the_one_that_was_taken(rig: Rig) -> None:
    rig.insert(2)
    kept, taken = rig.claim()
    beat = heartbeat(rig, kept, taken)
    beat.turn()
    rig.sql.execute(b"UPDATE jobs SET status = 'cancelled' WHERE id = %s", [taken.id])
    beat.turn()
    assert not taken.lost
    beat.check()
    beat.turn()
    assert (kept.lost, taken.lost) == (False, True)


def test_a_row_that_somebody_keeps_locked_holds_up_no_other_lease(rig: Rig) -> None:
    rig.insert(3)
    jobs = rig.claim(lease=20.0)
    host = rig.connect(autocommit=False)
    host.execute(b"UPDATE jobs SET priority = 9 WHERE id = %s", [jobs[1].id])
    beat = heartbeat(rig, *jobs)
    beat.check()
    thread = threading.Thread(target=beat.turn)
    thread.start()
    thread.join(5.0)
    assert not thread.is_alive()
    assert [left(rig, job.id) > 50 for job in jobs] == [True, False, True]
    assert not any(job.lost for job in jobs)
    host.rollback()
    beat.check()
    eventually(lambda: beat.turn() is not None and left(rig, jobs[1].id) > 50)


def test_it_does_not_ask_again_for_each_of_many_notifications(rig: Rig) -> None:
    rig.insert()
    [job] = rig.claim(lease=20.0)
    beat = heartbeat(rig, job)
    beat.check()
    beat.turn()
    renewed_at = job.renewed_at
    rows = rig.rows("SELECT * FROM jobqueue.workers")
    for _ in range(5):
        beat.check()
        assert 0 <= beat.turn() <= 0.25
    assert (job.renewed_at, rig.rows("SELECT * FROM jobqueue.workers")) == (renewed_at, rows)
    eventually(lambda: beat.turn() is not None and job.renewed_at > renewed_at)
    renewed_at = job.renewed_at
    beat.turn()
    assert job.renewed_at == renewed_at


def test_a_job_whose_outcome_is_on_the_way_is_not_reported_as_lost(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.insert(2)
    ended, running = rig.claim()
    beat = heartbeat(rig, ended, running)
    ended.ended = True
    rig.sql.execute(b"UPDATE jobs SET status = 'cancelled'")
    beat.check()
    beat.turn()
    lost = [record for record in caplog.records if record.message == "lease_lost"]
    assert [record.fields["job_id"] for record in lost] == [str(running.id)]  # type: ignore[attr-defined]


def test_the_process_shows_itself_and_takes_its_leave(rig: Rig) -> None:
    rig.sql.execute(b"""
        INSERT INTO jobqueue.workers (name, version, queues, concurrency, beat_at)
        VALUES ('long gone', '1', '{}', 1, now() - interval '2 days'), ('busy', '1', '{}', 1, now())""")
    beat = heartbeat(rig)
    beat.turn()
    assert rig.rows("SELECT name, queues, concurrency, in_flight, draining FROM jobqueue.workers WHERE name = 'w'") == [
        ("w", ["jobs"], 2, 1, False)
    ]
    beat.last()
    assert rig.rows("SELECT name FROM jobqueue.workers") == [("busy",)]


def test_a_job_that_runs_for_several_leases_stays_with_its_worker(rig: Rig) -> None:
    rig.insert()
    ran, go = list[int](), threading.Event()

    def handler(job: Job, context: Any) -> None:
        ran.append(job.attempt)
        go.wait(10.0)
        context.checkpoint()

    rig.worker(Queue("jobs", handler), lease_seconds=0.4, poll_seconds=0.1)
    started = eventually(lambda: rig.value("SELECT started_at FROM jobs"))
    eventually(lambda: rig.value("SELECT clock_timestamp() - %s > '1.5 s'", started), interval=0.05)
    go.set()
    eventually(lambda: rig.states() == {"completed": 1})
    assert ran == [1]


def test_its_connection_holds_the_presence_that_it_shows(rig: Rig) -> None:
    beat = heartbeat(rig)
    beat.turn()
    [(presence, fenced_after)] = rig.rows("SELECT presence, fenced_after FROM jobqueue.workers")
    pid = rig.link.connection().info.backend_pid
    query = "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = %s"
    assert (rig.rows(query, pid), fenced_after) == ([(presence,)], FENCED_AFTER)


def test_behind_a_pooler_it_has_no_presence_and_is_not_fenced_by_it(rig: Rig) -> None:
    rig.insert()
    [job] = rig.claim()
    leases = Leases(60.0)
    leases.hold([job])
    link = Link(rig.dsn, "pooled", prepare=False)
    beat = Heartbeat(link, Meter(Metrics(), ["jobs"]), {"jobs": rig.store()}, leases, introduce)
    assert 2.0 < beat.turn() <= 3.0
    assert rig.rows("SELECT presence, fenced_after FROM jobqueue.workers") == [(None, None)]
    assert leases.is_fresh(job)
    link.close()


def test_a_sign_of_life_is_asked_for_between_two_beats(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.insert()
    [job] = rig.claim()
    leases = Leases(60.0)
    leases.hold([job])
    beat = Heartbeat(rig.link, Meter(Metrics(), ["jobs"]), {"jobs": rig.store()}, leases, introduce)
    beat.turn()
    shown = rig.rows("SELECT beat_at FROM jobqueue.workers")
    # As much later as the fence allows, nobody has asked again.
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + FENCED_AFTER)
    assert not leases.is_fresh(job)
    beat.turn()
    assert leases.is_fresh(job)
    assert rig.rows("SELECT beat_at FROM jobqueue.workers") == shown


def test_a_new_session_acts_on_nothing_before_it_has_asked_about_every_lease(rig: Rig) -> None:
    rig.insert(2)
    kept, taken = rig.claim()
    beat = heartbeat(rig, kept, taken)
    beat.turn()
    [(before,)] = rig.rows("SELECT presence FROM jobqueue.workers")
    rig.sql.execute(b"UPDATE jobs SET status = 'cancelled' WHERE id = %s", [taken.id])
    rig.link.close()
    beat.turn()
    [(after,)] = rig.rows("SELECT presence FROM jobqueue.workers")
    assert before != after
    assert (kept.lost, taken.lost) == (False, True)


def test_jobs_whose_outcomes_the_database_lost_are_given_back_uncharged(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a failover to a standby that lacks the last commits: two jobs are held in its name, and it has one of them."""
    lost, held = rig.insert(2)
    first, second = rig.claim(worker="w")
    assert (first.id, second.id) == (lost, held)
    beat = heartbeat(rig, second)
    beat.turn()
    monkeypatch.setattr(strays, "_CERTAIN_AFTER", 0.0)
    beat.beat()
    beat.turn()
    assert rig.states() == {"processing": 2}, "the session is still the first"
    rig.link.close()
    beat.turn()
    # The first look alone says nothing: the answer to a claim may be on its way.
    assert rig.states() == {"processing": 2}
    beat.beat()
    beat.turn()
    assert {rig.row(id_)["status"]: id_ for id_ in (lost, held)} == {"pending": lost, "processing": held}
    assert rig.row(lost)["retry_count"] == 0
