"""Outcomes: what a handler's end becomes in the row, and that only the holder's own is ever recorded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import psycopg
import pytest
from tests.support.waiting import eventually

from jobqueue.errors import Cancelled, Interrupted, LeaseLost, Permanent, Retry, Snooze
from jobqueue.kernel import Backoff, Queue
from jobqueue.kernel.running.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Job
    from jobqueue.kernel.database.store import Store
    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.running.outcome import Verb

LATER = Backoff(first=1e5, longest=1e5)


def raising(error: BaseException) -> Callable[..., None]:
    def handler(*_: Any) -> None:
        raise error

    return handler


def test_success(rig: Rig) -> None:
    [id_] = rig.insert(1, error_message="an earlier failure", retry_count=1)
    rig.run_once(lambda *_: None)
    row = rig.row(id_)
    assert (row["status"], row["retry_count"], row["error_message"], row["locked_by"]) == ("completed", 1, None, None)
    assert row["started_at"] <= row["completed_at"]
    assert row["lease_expires_at"] is None


@pytest.mark.parametrize(
    ("error", "status", "retry_count", "message"),
    [
        (Permanent("the file is no picture"), "failed", 5, "the file is no picture"),
        (Retry("the origin answered 503", after=3_600), "pending", 1, "the origin answered 503"),
        (Retry("the origin answered 503"), "pending", 1, "the origin answered 503"),
        (Snooze("the origin asks for patience", 3_600), "pending", 0, "the origin asks for patience"),
        (Cancelled("the file was deleted"), "cancelled", 0, "the file was deleted"),
        (ValueError("unexpected"), "pending", 1, "ValueError: unexpected"),
        (KeyError(), "pending", 1, "KeyError"),
        (SystemExit(1), "pending", 1, "SystemExit: 1"),
    ],
)
def test_failure(rig: Rig, error: BaseException, status: str, retry_count: int, message: str) -> None:
    [id_] = rig.insert()
    rig.run_once(raising(error), backoff=LATER)
    row = rig.row(id_)
    assert (row["status"], row["retry_count"], row["error_message"]) == (status, retry_count, message)
    assert (row["lease_expires_at"], row["locked_by"]) == (None, None)
    assert (row["completed_at"] is not None) == (status != "pending")


def test_the_delay_that_was_asked_for_is_kept(rig: Rig) -> None:
    asked, snoozed = rig.insert(2)

    def handler(job: Job, _: Any) -> None:
        raise Retry("wait", after=1_000) if job.id == asked else Snooze("wait", 2_000)

    rig.run_once(handler)
    seconds = "SELECT extract(epoch FROM run_after - now()) FROM jobs WHERE id = %s"
    assert 990 < rig.value(seconds, asked) <= 1_000
    assert 1_990 < rig.value(seconds, snoozed) <= 2_000


@pytest.mark.parametrize("seconds", [1e300, float("inf"), float("nan"), -5.0])
def test_a_delay_beyond_reason_is_bounded(rig: Rig, seconds: float) -> None:
    [id_] = rig.insert(1, max_retries=2)
    errors = iter([Retry("wait", after=seconds), Cancelled("enough")])
    rig.run_once(lambda *_: raising(next(errors))())
    row = rig.row(id_)
    if seconds > 0:
        assert row["status"] == "pending"
        assert 29 < rig.value("SELECT extract(day FROM run_after - now()) FROM jobs") + 1 <= 31
    else:
        assert row["status"] == "cancelled"


def test_the_last_attempt_that_is_allowed_ends_failed(rig: Rig) -> None:
    [id_] = rig.insert(1, max_retries=3)
    attempts: list[int] = []

    def handler(job: Job, _: Any) -> None:
        attempts.append(job.attempt)
        raise Retry(f"attempt {job.attempt}", after=0)

    worker = rig.run_once(handler)
    row = rig.row(id_)
    assert attempts == [1, 2, 3]
    assert (row["status"], row["retry_count"], row["error_message"]) == ("failed", 3, "attempt 3")
    value = worker.metrics.registry.get_sample_value
    counted = {o: value("jobqueue_jobs_finished_total", {"queue": "jobs", "outcome": o}) for o in ("retried", "failed")}
    assert counted == {"retried": 2, "failed": 1}


def test_messages_are_redacted_cut_and_fit_for_the_column(rig: Rig) -> None:
    [id_] = rig.insert()
    rig.run_once(
        raising(Permanent("token=hunter2 \0 \udcff " + "x" * 5_000)),
        redact=lambda text: text.replace("hunter2", "[redacted]"),
    )
    message = rig.row(id_)["error_message"]
    assert message.startswith("token=[redacted]  ? xxx")
    assert len(message) == 2_000


VERBS: dict[str, Callable[[Store, Any, list[LeasedJob]], Any]] = {
    "complete": lambda store, link, jobs: store.complete(link, jobs),
    "retry": lambda store, link, jobs: store.retry(link, jobs, [0.0] * len(jobs), ["stale"] * len(jobs)),
    "fail": lambda store, link, jobs: store.fail(link, jobs, ["stale"] * len(jobs)),
    "cancel": lambda store, link, jobs: store.cancel(link, jobs, ["stale"] * len(jobs)),
    "snooze": lambda store, link, jobs: store.snooze(link, jobs, [9.0] * len(jobs), ["stale"] * len(jobs)),
    "release": lambda store, link, jobs: store.release(link, jobs),
    "renew": lambda store, link, jobs: store.renew(link, jobs, 60.0),
}


@pytest.mark.parametrize(
    "since", ["claimed again", "completed", "cancelled by the host", "requeued by the host", "deleted"]
)
def test_a_stale_token_changes_nothing(rig: Rig, since: str) -> None:
    [id_] = rig.insert()
    [stale] = rig.claim()
    store = rig.store()
    match since:
        case "claimed again":
            store.release(rig.link, [stale])
            assert [job.id for job in rig.claim()] == [id_]
        case "completed":
            store.complete(rig.link, [stale])
        case "cancelled by the host":
            rig.sql.execute(b"UPDATE jobs SET status = 'cancelled'")
        case "requeued by the host":
            rig.sql.execute(b"UPDATE jobs SET status = 'pending'")
        case _:
            rig.sql.execute(b"DELETE FROM jobs")
    before = rig.rows("SELECT * FROM jobs")
    for verb, act in VERBS.items():
        assert not act(store, rig.link, [stale]), verb
        assert rig.rows("SELECT * FROM jobs") == before, verb


def test_in_a_batch_only_the_stale_ones_are_left_out(rig: Rig) -> None:
    for verb, act in VERBS.items():
        ids = rig.insert(6)
        jobs = rig.claim()
        for job in jobs[::2]:
            job.token = uuid4()
        assert set(act(rig.store(), rig.link, jobs[::-1])) == set(ids[1::2]), verb
        rig.sql.execute(b"DELETE FROM jobs")


def test_errors_and_delays_stay_with_their_jobs_in_a_batch(rig: Rig) -> None:
    rig.insert(5)
    jobs = rig.claim()[::-1]
    rig.store().retry(rig.link, jobs, [1_000.0 * job.id for job in jobs], [f"error {job.id}" for job in jobs])
    rows = rig.rows(
        "SELECT id, error_message, round(extract(epoch FROM run_after - now()) / 1000) FROM jobs ORDER BY id"
    )
    assert rows == [(n, f"error {n}", n) for n in range(1, 6)]


@pytest.mark.parametrize("word", ["cancelled", "completed", "failed", "on hold"])
def test_a_state_set_by_the_host_takes_the_lease_of_a_running_job_away(rig: Rig, word: str) -> None:
    [id_] = rig.insert()
    began, ended = threading.Event(), list[str]()

    def handler(_: Job, context: Any) -> None:
        began.set()
        try:
            while True:
                context.checkpoint()
        except LeaseLost:
            ended.append("lost")
            raise

    rig.worker(Queue("jobs", handler))
    assert began.wait(5.0)
    rig.sql.execute(b"UPDATE jobs SET status = %s", [word])
    eventually(lambda: ended, 3.0)  # long before the lease runs out: the holder was told
    row = rig.row(id_)
    assert (row["status"], row["lease_token"], row["locked_by"]) == (word, None, None)
    assert (row["completed_at"] is None) == (word == "on hold")


def test_a_commit_after_the_host_has_cancelled_is_refused_with_its_effects(rig: Rig) -> None:
    rig.insert()

    def handler(_: Job, context: Any) -> None:
        rig.sql.execute(b"UPDATE jobs SET status = 'cancelled'")
        context.commit(lambda cursor: cursor.execute(b"CREATE TABLE effect ()"))

    worker = rig.run_once(handler)
    assert rig.value("SELECT to_regclass('effect')") is None
    assert rig.states() == {"cancelled": 1}
    count = worker.metrics.registry.get_sample_value
    assert count("jobqueue_jobs_finished_total", {"queue": "jobs", "outcome": "lease_lost"}) == 1


@pytest.mark.parametrize("status", ["failed", "cancelled", "completed"])
def test_what_has_ended_is_queued_again_by_sql(rig: Rig, status: str) -> None:
    rig.insert(1, status=status, retry_count=5, crash_count=4)
    rig.sql.execute(b"UPDATE jobs SET status = 'pending'")
    attempts: list[int] = []
    rig.run_once(lambda job, _: attempts.append(job.attempt))
    assert attempts == [6]
    assert rig.states() == {"completed": 1}


def test_a_running_job_that_is_queued_again_by_sql_runs_again_and_only_that_run_counts(rig: Rig) -> None:
    [id_] = rig.insert()
    runs: list[int] = []

    def handler(job: Job, context: Any) -> None:
        runs.append(len(runs))
        mine = len(runs)
        if mine == 1:
            rig.sql.execute(b"UPDATE jobs SET status = 'pending'")
            eventually(lambda: len(runs) == 2)
        context.commit(lambda cursor: cursor.execute(b"UPDATE jobs SET payload = to_jsonb(%s)", [mine]))

    rig.run_once(handler)
    assert (rig.row(id_)["status"], rig.row(id_)["payload"]) == ("completed", 2)


def test_a_connection_lost_at_the_flush_loses_no_outcome_and_records_none_twice(rig: Rig) -> None:
    rig.insert(40)
    engine = rig.engine(Queue("jobs", lambda *_: None), size=40)
    engine.turn(3)
    engine.end(*engine.begun, verb="retry", delay=1_000.0)
    link = engine.completer.link
    link.fetch(b"SELECT 1")
    rig.sql.execute(b"SELECT pg_terminate_backend(%s)", [link.connection().info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        engine.completer.turn()
    assert engine.completer.unrecorded == 40
    engine.completer.turn()
    assert engine.completer.unrecorded == 0
    assert rig.rows("SELECT DISTINCT status, retry_count FROM jobs") == [("pending", 1)]
    # And when it was the answer that was lost: the same outcomes sent again change nothing.
    for job in engine.begun:
        engine.completer.submit(Outcome(job, "retry", "again"))
    engine.completer.turn()
    assert rig.rows("SELECT DISTINCT status, retry_count FROM jobs") == [("pending", 1)]


def test_outcomes_whose_answer_was_lost_are_not_taken_for_lost_leases(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = rig.insert(6)
    engine = rig.engine(Queue("jobs", lambda *_: None), size=6)
    engine.turn(3)
    for verb, jobs in {"complete": engine.begun[:2], "fail": engine.begun[2:4], "cancel": engine.begun[4:]}.items():
        engine.end(*jobs, verb=cast("Verb", verb), error="why")
    fetch = engine.completer.link.fetch

    def loses_the_answer(*args: Any) -> Any:
        fetch(*args)
        monkeypatch.undo()
        raise psycopg.OperationalError("the connection was lost")

    monkeypatch.setattr(engine.completer.link, "fetch", loses_the_answer)
    with pytest.raises(psycopg.OperationalError):
        engine.completer.turn()
    engine.completer.lost()
    engine.completer.turn()
    assert dict(rig.rows("SELECT id, status FROM jobs")) == dict(
        zip(ids, ["completed"] * 2 + ["failed"] * 2 + ["cancelled"] * 2, strict=True)
    )
    sample = engine.metrics.registry.get_sample_value
    counts = {
        outcome: sample("jobqueue_jobs_finished_total", {"queue": "jobs", "outcome": outcome})
        for outcome in ("completed", "failed", "cancelled", "lease_lost")
    }
    assert counts == {"completed": 2, "failed": 2, "cancelled": 2, "lease_lost": 0}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_leases_on_one_job_in_a_batch_the_later_counts(rig: Rig, order: int) -> None:
    rig.insert(3)
    earlier = rig.claim(lease=-1.0)
    rig.store().release(rig.link, earlier)
    later = rig.claim()
    for verb, act in VERBS.items():
        assert len(act(rig.store(), rig.link, (earlier + later)[::order])) == 3, verb
        rig.sql.execute(b"UPDATE jobs SET status = 'pending', run_after = now()")
        earlier, later = later, rig.claim()


def test_one_outcome_that_the_database_refuses_does_not_hold_up_the_others(rig: Rig) -> None:
    rig.sql.execute(b"""
        CREATE FUNCTION object() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.status = 'completed' AND NEW.kind = 'odd' THEN RAISE EXCEPTION 'no odd ones'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER object BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION object()""")
    rig.insert(3)
    [odd] = rig.insert(1, kind="odd", max_retries=1)
    rig.run_once(lambda *_: None)
    assert rig.states() == {"completed": 3, "failed": 1}
    assert rig.row(odd)["error_message"] == "the database refused to record the job's completion: no odd ones"


def test_an_interrupted_job_goes_back_as_it_was(rig: Rig) -> None:
    [id_] = rig.insert(1, retry_count=2, crash_count=1)
    errors = iter([Interrupted("shutting down"), Permanent("the end")])
    seen: list[int] = []

    def handler(job: Job, _: Any) -> None:
        seen.append(cast("LeasedJob", job).crash_count)
        raise next(errors)

    rig.run_once(handler)
    assert seen == [1, 1]
    assert rig.row(id_)["retry_count"] == 5


def test_a_row_that_a_host_holds_locked_does_not_hold_up_the_outcomes_of_others(rig: Rig) -> None:
    ids = rig.insert(6)
    host = rig.connect(autocommit=False)
    locked = threading.Event()

    def handler(job: Job, _: Any) -> None:
        if job.id == ids[0]:
            host.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", [job.id])
            locked.set()
        assert locked.wait(10)

    rig.worker(Queue("jobs", handler), concurrency=6)
    eventually(lambda: rig.states().get("completed") == 5)
    assert rig.row(ids[0])["status"] == "processing"
    host.commit()
    eventually(lambda: rig.states().get("completed") == 6)
    assert rig.row(ids[0])["retry_count"] == 0


@pytest.mark.parametrize("verb", ["retry", "fail", "cancel", "snooze"])
@pytest.mark.parametrize("text", ["x" * 500, "a byte \0 of nothing", ""], ids=["long", "nul", "none"])
def test_a_text_that_does_not_fit_costs_no_outcome(rig: Rig, verb: Verb, text: str) -> None:
    """The column was made narrower after it was adopted."""
    rig.sql.execute(b"ALTER TABLE jobs ALTER COLUMN error_message TYPE varchar(40)")
    ids = rig.insert(3)
    engine = rig.engine(Queue("jobs", lambda *_: None))
    first, second, third = engine.turn(3)
    for job, error in ((first, "short"), (second, text), (third, "short")):
        engine.end(job, verb=verb, error=error, delay=1_000.0)
    engine.completer.turn()
    assert engine.completer.unrecorded == 0
    rows = [rig.row(id_) for id_ in ids]
    assert len({row["status"] for row in rows}) == 1
    assert rows[0]["status"] != "processing"
    message = rows[1]["error_message"]
    assert message == text[:31] if text.startswith("x") else message == text.replace("\0", "?")


def test_a_completion_that_a_host_refuses_with_a_data_error_is_a_failed_attempt(rig: Rig) -> None:
    rig.sql.execute(b"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE string_data_right_truncation; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON jobs FOR EACH ROW WHEN (NEW.status = 'completed') EXECUTE FUNCTION refuse()""")
    [id_] = rig.insert(max_retries=1)
    rig.run_once(lambda *_: None)
    assert rig.row(id_)["status"] == "failed"
