"""The context: fenced transactions, that happen once with the outcome or not at all."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from jobqueue.errors import Interrupted, LeaseLost, Snooze
from jobqueue.kernel import Context
from jobqueue.kernel.leases import Leases
from jobqueue.kernel.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.kernel.rig import Rig

    from jobqueue.kernel import Job

Connection = psycopg.Connection[Any]
Cursor = psycopg.Cursor[Any]


class Held:
    """One job that is held, and its context."""

    def __init__(self, rig: Rig, job: Job, transactions: Transactions) -> None:
        leases = Leases(60.0)
        leases.hold([job])
        self.rig = rig
        self.job = job
        self.transactions = transactions
        self.interrupted, self.draining = threading.Event(), threading.Event()
        self.context = Context(job, rig.store(), leases, transactions, self.interrupted, self.draining)

    def deafened(self, then: Callable[[Connection, int], None]) -> Context:
        """Its context with the first transaction's answer lost."""
        leases = Leases(60.0)
        leases.hold([self.job])
        transactions = Deaf(self.rig.connect(autocommit=False), self.transactions, then)
        return Context(
            self.job, self.rig.store(), leases, cast("Transactions", transactions), self.interrupted, self.draining
        )

    @property
    def effects(self) -> int:
        return int(self.rig.value("SELECT count(*) FROM effects"))

    @property
    def status(self) -> str:
        return str(self.rig.row(self.job.id)["status"])


@pytest.fixture
def held(rig: Rig) -> Iterator[Held]:
    rig.sql.execute(b"CREATE TABLE effects (pid int DEFAULT pg_backend_pid())")
    rig.insert()
    [job] = rig.claim()
    transactions = Transactions(rig.dsn, 2)
    transactions.open()
    yield Held(rig, job, transactions)
    transactions.close()


def effect(cursor: Cursor) -> None:
    cursor.execute(b"INSERT INTO effects DEFAULT VALUES")


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


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_connection_that_is_lost_in_the_middle_is_tried_again_and_the_effects_happen_once(
    held: Held, moment: str
) -> None:
    cut: list[int] = []

    def effects(cursor: Cursor) -> None:
        if moment == "during":
            effect(cursor)
        if not cut:
            cut.append(cursor.connection.info.backend_pid)
            held.rig.sql.execute(b"SELECT pg_terminate_backend(%s)", cut)
        if moment == "before":
            effect(cursor)

    held.context.commit(effects)
    assert (held.effects, held.status) == (1, "completed")


def test_a_commit_whose_answer_was_lost_is_recognised(held: Held) -> None:
    """The transaction commits; the connection goes away before the client hears of it."""
    runs: list[int] = []

    def effects(cursor: Cursor) -> None:
        runs.append(1)
        effect(cursor)
        if len(runs) == 1:
            cursor.connection.commit()
            held.rig.sql.execute(b"SELECT pg_terminate_backend(%s)", [cursor.connection.info.backend_pid])
            cursor.execute(b"SELECT 1")

    held.context.commit(effects)
    assert (held.effects, held.status, len(runs), held.context.committed) == (1, "completed", 1, True)


class Deaf:
    """Transactions of which the first does its work, and whose client hears no more of it. `then` gets that one's connection
    when each transaction begins, and the number of those that began."""

    def __init__(self, first: Connection, rest: Transactions, then: Callable[[Connection, int], None]) -> None:
        self.first = first
        self._rest = rest
        self._then = then
        self._begun = 0

    @contextmanager
    def begin(self) -> Iterator[Cursor]:
        self._begun += 1
        if self._begun == 1:
            yield self.first.cursor()
            raise psycopg.OperationalError("the answer was lost")
        self._then(self.first, self._begun)
        with self._rest.begin() as cursor:
            yield cursor


def commits(first: Connection, begun: int) -> None:
    if begun == 2:
        first.commit()


def commits_later(first: Connection, begun: int) -> None:
    if begun == 4:
        first.commit()


def fails(first: Connection, begun: int) -> None:
    if begun == 2:
        first.rollback()


@pytest.mark.parametrize(("then", "calls"), [(commits, 1), (commits_later, 1), (fails, 2)])
def test_a_write_whose_answer_was_lost_happens_once(
    held: Held, monkeypatch: pytest.MonkeyPatch, then: Callable[[Connection, int], None], calls: int
) -> None:
    monkeypatch.setattr("jobqueue.kernel.context._NOT_YET", 0.01)
    called: list[int] = []

    def effects(cursor: Cursor) -> None:
        called.append(1)
        effect(cursor)

    held.deafened(then).write(effects)
    assert (held.effects, len(called), held.status) == (1, calls, "processing")


def test_a_write_of_which_a_crash_left_nobody_knowing_is_given_up(held: Held) -> None:
    """An operator's reset of the statistics stands for the crash, of which tests/kernel/test_doubt.py has a real one."""

    def crashes(first: Connection, begun: int) -> None:
        commits(first, begun)
        held.rig.sql.execute(b"SELECT pg_stat_reset_shared('bgwriter')")

    with pytest.raises(Snooze, match="may have happened"):
        held.deafened(crashes).write(effect)
    assert (held.effects, held.status) == (1, "processing")


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
def test_effects_that_pass_over_the_loss_of_the_connection_happen_in_another_transaction(held: Held, act: str) -> None:
    called: list[int] = []

    def effects(cursor: Cursor) -> None:
        called.append(1)
        if len(called) == 1:
            held.rig.sql.execute(b"SELECT pg_terminate_backend(%s)", [cursor.connection.info.backend_pid])
        with suppress(psycopg.Error):
            effect(cursor)

    getattr(held.context, act)(effects)
    assert (held.effects, len(called)) == (1, 2)


def test_what_effects_do_to_their_cursor_and_session_does_not_hide_how_a_write_ended(held: Held) -> None:
    def effects(cursor: Cursor) -> None:
        effect(cursor)
        cursor.execute(b"SET LOCAL TIME ZONE 'Asia/Tokyo'")
        cursor.row_factory = dict_row
        cursor.close()

    held.deafened(commits).write(effects)
    assert (held.effects, held.status) == (1, "processing")


@pytest.mark.parametrize("act", ["write", "commit"])
def test_a_row_that_somebody_holds_locked_is_waited_for_although_the_session_has_a_limit(
    held: Held, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobqueue.kernel.context._NOT_YET", 0.01)
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


def test_a_commit_that_the_server_ends_while_it_is_asked_for_again_is_recognised(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = held.deafened(lambda _first, _begun: None)
    store = context._store
    complete_within = store.complete_within
    first = cast("Deaf", context._transactions).first

    def ends_meanwhile(cursor: Cursor, job: Job) -> bool:
        if cursor.connection is not first:
            # Has been looked for in vain; the row is what is waited for now, and what comes of it is the first one's commit.
            first.commit()
        return complete_within(cursor, job)

    monkeypatch.setattr(store, "complete_within", ends_meanwhile)
    context.commit(effect)
    assert (held.effects, held.status) == (1, "completed")
