"""The context: fenced transactions, that happen once with the outcome or not at all. For what happens to those whose
connection is lost see test_lost_commits.py."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from tests.kernel.held_job import effect
from tests.support.isolation import LEVELS, default_isolation

from jobqueue.errors import Interrupted, LeaseLost
from jobqueue.kernel.running.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.kernel.held_job import Cursor, Held

    from jobqueue.kernel import Context


def test_a_commit_completes_the_job_with_its_effects(held: Held) -> None:
    held.context.commit(effect)
    assert (held.effects, held.status, held.context.committed) == (1, "completed", True)


def test_a_write_leaves_the_job_running(held: Held) -> None:
    held.context.write(effect)
    assert (held.effects, held.status, held.context.committed) == (1, "processing", False)


def test_effects_that_fail_leave_nothing_and_the_job_as_it_was(held: Held) -> None:
    def fails(cursor: Cursor) -> None:
        effect(cursor)
        raise ValueError("half-way")

    for act in (held.context.write, held.context.commit):
        with pytest.raises(ValueError, match="half-way"):
            act(fails)
    assert (held.effects, held.status, held.context.committed) == (0, "processing", False)


@pytest.mark.parametrize("act", ["write", "commit"])
def test_a_holder_whose_lease_went_to_somebody_else_writes_nothing(held: Held, act: str) -> None:
    held.rig.store().release(held.rig.link, [held.job])
    held.rig.claim()
    with pytest.raises(LeaseLost):
        getattr(held.context, act)(effect)
    assert (held.effects, held.status) == (0, "processing")


@pytest.mark.parametrize("limit", ["SET LOCAL statement_timeout = 20", "SET LOCAL lock_timeout = 20"])
def test_effects_that_the_server_gives_up_are_a_failure_and_not_waited_for(held: Held, limit: str) -> None:
    blocker = held.rig.connect(autocommit=False)
    blocker.execute(b"LOCK TABLE effects")

    def effects(cursor: Cursor) -> None:
        cursor.execute(limit.encode())
        effect(cursor)

    with pytest.raises((psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)):
        held.context.commit(effects)
    blocker.rollback()
    assert (held.effects, held.status) == (0, "processing")


def test_a_read_returns_rows(held: Held) -> None:
    assert held.context.read("SELECT %(n)s::int + 1", {"n": 1}) == [(2,)]


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_transactions_are_read_committed_whatever_the_default_is(held: Held, level: str, pooled: bool) -> None:
    """What locks and then looks would see things as they were before it had the lock."""
    transactions = Transactions(held.rig.dsn, 2, pooled=pooled)
    with default_isolation(held.rig.dsn, level):
        transactions.open()
        for _ in range(2):
            with transactions.begin() as cursor:
                assert cursor.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
                # The session is left as it was, for it may be another's next.
                assert cursor.execute("SHOW default_transaction_isolation").fetchone() == (level,)
        transactions.close()


@pytest.mark.parametrize("act", [lambda c: c.checkpoint(), lambda c: c.write(effect), lambda c: c.commit(effect)])
def test_nothing_is_begun_once_the_worker_interrupts(held: Held, act: Callable[[Context], None]) -> None:
    seen = [held.context.draining]
    held.draining.set()
    seen.append(held.context.draining)
    assert seen == [False, True]
    held.context.checkpoint()
    held.interrupted.set()
    with pytest.raises(Interrupted):
        act(held.context)
    assert held.effects == 0


def test_stages_add_up_under_their_names(held: Held) -> None:
    for name in ("download", "encode", "download"):
        with held.context.stage(name):
            pass
    with pytest.raises(ValueError, match="x"), held.context.stage("upload"):
        raise ValueError("x")
    assert set(held.context.stages) == {"download", "encode", "upload"}


@pytest.mark.parametrize("act", ["write", "commit"])
def test_effects_that_pass_over_a_failed_statement_are_not_taken_for_committed(held: Held, act: str) -> None:
    def effects(cursor: Cursor) -> None:
        effect(cursor)
        with suppress(psycopg.Error):
            cursor.execute(b"SELECT 1 / 0")

    with pytest.raises(psycopg.InternalError):
        getattr(held.context, act)(effects)
    assert (held.effects, held.status, held.context.committed) == (0, "processing", False)


@pytest.mark.parametrize("act", ["write", "commit"])
def test_a_row_that_somebody_holds_locked_is_waited_for_although_the_session_has_a_limit(
    held: Held, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobqueue.kernel.running.context._NOT_YET", 0.01)
    held.rig.sql.execute(
        sql.SQL("ALTER DATABASE {} SET lock_timeout = '20ms'").format(sql.Identifier(held.rig.sql.info.dbname))
    )
    locker = held.rig.connect(autocommit=False)
    locker.execute(b"SELECT FROM jobs FOR UPDATE")
    begins = held.transactions.begin
    begun: list[int] = []

    def counted() -> AbstractContextManager[Cursor]:
        begun.append(1)
        if len(begun) == 3:
            locker.rollback()
        return begins()

    monkeypatch.setattr(held.transactions, "begin", counted)
    getattr(held.context, act)(effect)
    assert held.effects == 1
    assert len(begun) >= 3


def test_a_table_that_its_host_alters_costs_a_handler_nothing(held: Held) -> None:
    """What was prepared before would be refused: "cached plan must not change result type"."""
    held.rig.sql.execute(b"CREATE TABLE things (id int, word text)")
    held.rig.sql.execute(b"INSERT INTO things VALUES (1, 'a')")
    for _ in range(10):
        assert held.context.read("SELECT * FROM things WHERE id::text = %(id)s", {"id": "1"}) == [(1, "a")]
    held.rig.sql.execute(b"ALTER TABLE things ALTER COLUMN id TYPE bigint, ALTER COLUMN word TYPE varchar(9)")
    assert held.context.read("SELECT * FROM things WHERE id::text = %(id)s", {"id": "1"}) == [(1, "a")]
