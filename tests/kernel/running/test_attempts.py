"""The table of attempts: a row for each outcome that counts, exactly one, and none for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from tests.kernel.held_job import effect

from jobqueue.errors import Cancelled, Interrupted, Permanent, Retry, Snooze
from jobqueue.kernel import Backoff, Queue
from jobqueue.kernel.database.store import Store, describe

if TYPE_CHECKING:
    from tests.kernel.held_job import Cursor, Held
    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Job
    from jobqueue.kernel.database.rows import KeepAttempts
    from jobqueue.kernel.running.outcome import Verb

LATER = Backoff(first=1e5, longest=1e5)

KEPT = "SELECT job_id, attempt, outcome, error FROM jobqueue.attempts ORDER BY id"


def failing(error: BaseException | None) -> Any:
    def handler(*_: Any) -> None:
        if error is not None:
            raise error

    return handler


@pytest.mark.parametrize("keep_attempts", ["all", "failed"])
@pytest.mark.parametrize(
    ("error", "outcome", "message"),
    [
        (None, "completed", None),
        (Permanent("no picture"), "failed", "no picture"),
        (Retry("the origin answered 503", after=3_600), "retried", "the origin answered 503"),
        (Cancelled("the file was deleted"), "cancelled", "the file was deleted"),
        (ValueError("unexpected"), "retried", "ValueError: unexpected"),
        (Snooze("the origin asks for patience", 3_600), None, None),
    ],
)
def test_each_outcome_leaves_its_row(
    rig: Rig, keep_attempts: KeepAttempts, error: BaseException | None, outcome: str | None, message: str | None
) -> None:
    [id_] = rig.insert(retry_count=2)
    worker = rig.run_once(failing(error), backoff=LATER, keep_attempts=keep_attempts)
    kept = outcome is not None and (outcome != "completed" or keep_attempts == "all")
    assert rig.rows(KEPT) == ([(str(id_), 3, outcome, message)] if kept else [])
    if kept:
        query = """SELECT a.queue, a.worker, a.started_at = j.started_at, a.ended_at BETWEEN a.started_at AND now(), a.stages
                   FROM jobqueue.attempts AS a JOIN jobs AS j ON j.id::text = a.job_id"""
        assert rig.rows(query) == [("jobs", worker.name, True, True, None)]


def test_every_attempt_of_a_job_is_there_and_the_last_one_has_failed(rig: Rig) -> None:
    [id_] = rig.insert(max_retries=3)
    rig.run_once(failing(Retry("again", after=0)))
    assert rig.rows(KEPT) == [
        (str(id_), n, outcome, "again") for n, outcome in enumerate(("retried",) * 2 + ("failed",), 1)
    ]


def test_an_attempt_that_was_interrupted_is_none(rig: Rig) -> None:
    rig.insert()
    errors = iter([Interrupted("shutting down"), None])
    rig.run_once(lambda *_: failing(next(errors))(), keep_attempts="all")
    assert rig.rows(KEPT) == [("1", 1, "completed", None)]


def test_stages_are_kept_in_milliseconds_whatever_their_names(rig: Rig) -> None:
    rig.insert()

    def handler(_: Job, context: Any) -> None:
        context.stages.update({"decode": 0.25, "endless": float("inf"), 'a "name" \\ \0 \udcff é': 1.0})
        raise Permanent("over")

    rig.run_once(handler)
    assert rig.rows("SELECT stages FROM jobqueue.attempts") == [({"decode": 250.0, 'a "name" \\ ? ? ?': 1000.0},)]


@pytest.mark.parametrize(("keep_attempts", "rows"), [("all", [({"encode": 1500.0},)]), ("failed", [])])
def test_a_handlers_own_commit_leaves_the_row_with_its_effects(
    rig: Rig, keep_attempts: KeepAttempts, rows: list[Any]
) -> None:
    rig.insert()

    def handler(_: Job, context: Any) -> None:
        context.stages["encode"] = 1.5
        context.commit(lambda cursor: cursor.execute(b"CREATE TABLE effect ()"))
        context.stages["later"] = 1.0

    rig.run_once(handler, keep_attempts=keep_attempts)
    assert rig.value("SELECT to_regclass('effect')") == "effect"
    assert rig.rows("SELECT stages FROM jobqueue.attempts") == rows


def test_a_commit_that_is_undone_leaves_none(rig: Rig) -> None:
    rig.insert()

    def handler(_: Job, context: Any) -> None:
        context.commit(lambda cursor: cursor.execute(b"SELECT 1 / 0"))

    rig.run_once(handler, backoff=LATER, keep_attempts="all")
    assert rig.rows("SELECT outcome FROM jobqueue.attempts") == [("retried",)]


def test_a_commit_whose_answer_was_lost_leaves_one(held: Held) -> None:
    context = held.context
    context._store = Store(held.rig.store().description, keep_attempts="all")
    runs: list[int] = []

    def effects(cursor: Cursor) -> None:
        runs.append(1)
        effect(cursor)
        if len(runs) == 1:
            cursor.connection.commit()
            held.rig.sql.execute(b"SELECT pg_terminate_backend(%s)", [cursor.connection.info.backend_pid])
            cursor.execute(b"SELECT 1")

    context.commit(effects)
    assert held.rig.rows("SELECT outcome FROM jobqueue.attempts") == [("completed",)]


@pytest.mark.parametrize("verb", ["complete", "retry", "fail", "cancel"])
def test_a_statement_whose_answer_was_lost_leaves_one_row_an_outcome(
    rig: Rig, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.insert(5)
    engine = rig.engine(Queue("jobs", lambda *_: None, keep_attempts="all"), size=5)
    engine.turn(3)
    engine.end(*engine.begun, verb=verb, error="why", delay=1_000.0)
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
    assert engine.completer.unrecorded == 0
    assert rig.rows("SELECT job_id FROM jobqueue.attempts ORDER BY job_id") == [(str(n),) for n in range(1, 6)]


def test_of_a_zombie_there_is_none_and_in_a_batch_rows_stay_with_their_jobs(rig: Rig) -> None:
    rig.insert(6)
    zombies = rig.claim(2, lease=-1.0)
    store = Store(describe(rig.link, "jobs"), keep_attempts="all", worker="w")
    store.release(rig.link, zombies)
    jobs = [*rig.claim(), *zombies]
    stages = [{"s": float(job.id)} for job in jobs[:-2]] + [{"zombie": 1.0}] * 2
    errors = [f"error {job.id}" for job in jobs[:-2]] + ["zombie"] * 2
    assert len(store.retry(rig.link, jobs, [1e5] * 8, errors, stages)) == 6
    query = "SELECT job_id, error, stages, worker FROM jobqueue.attempts ORDER BY job_id"
    assert rig.rows(query) == [(str(n), f"error {n}", {"s": n * 1000.0}, "w") for n in range(1, 7)]
    for act in (
        store.complete(rig.link, zombies),
        store.fail(rig.link, zombies, ["zombie"] * 2),
        store.cancel(rig.link, zombies, ["zombie"] * 2),
        store.retry(rig.link, zombies, [0.0] * 2, ["zombie"] * 2),
    ):
        assert not act
    with rig.connect(autocommit=False) as connection, connection.cursor() as cursor:
        assert not store.complete_within(cursor, zombies[0], {"zombie": 1.0})
    assert rig.value("SELECT count(*) FROM jobqueue.attempts") == 6


@pytest.mark.parametrize(("retry_count", "state"), [(0, "pending"), (4, "failed")])
def test_a_rescue_leaves_the_lost_workers_attempt(rig: Rig, retry_count: int, state: str) -> None:
    [id_] = rig.insert(retry_count=retry_count)
    rig.claim(lease=-1.0, worker="gone")
    assert rig.store().rescue(rig.link, 0.0)
    assert rig.states() == {state: 1}
    rows = rig.rows("SELECT job_id, attempt, outcome, worker, started_at <= ended_at, error FROM jobqueue.attempts")
    assert rows == [(str(id_), retry_count + 1, "crashed", "gone", True, rig.row(id_)["error_message"])]
    assert rig.store().rescue(rig.link, 0.0) == []


def test_an_orphan_was_nobodys_attempt(rig: Rig) -> None:
    rig.insert(status="processing")
    assert rig.store().lease_orphans(rig.link, -1.0)
    assert rig.store().rescue(rig.link, 0.0)
    assert rig.value("SELECT count(*) FROM jobqueue.attempts") == 0


def test_behind_a_pooler_the_rows_are_the_same(rig: Rig) -> None:
    rig.insert(2)

    def handler(job: Job, context: Any) -> None:
        context.stages["s"] = 1.0
        if job.id == 1:
            raise Permanent("over")

    rig.run_once(handler, keep_attempts="all", pooled=True)
    rows = rig.rows("SELECT job_id, outcome, stages, error FROM jobqueue.attempts ORDER BY job_id")
    assert rows == [("1", "failed", {"s": 1000.0}, "over"), ("2", "completed", {"s": 1000.0}, None)]


def test_a_queue_with_its_own_words_and_types(rig: Rig) -> None:
    """A percent sign in its name, a key that is a uuid, a time without a zone and a short text."""
    rig.sql.execute(
        b"""CREATE TABLE "rate %" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), started_at timestamp, error_message varchar(300))"""
    )
    name = rig.value("SELECT jobqueue.adopt('public.\"rate %\"', failed => '100 %')")
    id_ = cast("Any", rig.value('INSERT INTO "rate %" DEFAULT VALUES RETURNING id'))
    rig.run_once(failing(Permanent("over")), queue=name)
    assert rig.rows("SELECT queue, job_id, outcome, error FROM jobqueue.attempts") == [
        (name, str(id_), "failed", "over")
    ]
