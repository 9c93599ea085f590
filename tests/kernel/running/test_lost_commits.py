"""Transactions of a handler whose connection is lost: what they did happens once, whatever their client heard of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.kernel.held_job import effect

from jobqueue.errors import Snooze

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.kernel.held_job import Connection, Cursor, Deaf, Held

    from jobqueue.kernel.job import LeasedJob


def commits(first: Connection, begun: int) -> None:
    if begun == 2:
        first.commit()


def commits_later(first: Connection, begun: int) -> None:
    if begun == 4:
        first.commit()


def fails(first: Connection, begun: int) -> None:
    if begun == 2:
        first.rollback()


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


@pytest.mark.parametrize(("then", "calls"), [(commits, 1), (commits_later, 1), (fails, 2)])
def test_a_write_whose_answer_was_lost_happens_once(
    held: Held, monkeypatch: pytest.MonkeyPatch, then: Callable[[Connection, int], None], calls: int
) -> None:
    monkeypatch.setattr("jobqueue.kernel.running.context._NOT_YET", 0.01)
    called: list[int] = []

    def effects(cursor: Cursor) -> None:
        called.append(1)
        effect(cursor)

    held.deafened(then).write(effects)
    assert (held.effects, len(called), held.status) == (1, calls, "processing")


def test_a_write_of_which_a_crash_left_nobody_knowing_is_given_up(held: Held) -> None:
    """An operator's reset of the statistics stands for the crash, of which tests/kernel/running/test_commit_in_doubt.py has a real one."""

    def crashes(first: Connection, begun: int) -> None:
        commits(first, begun)
        held.rig.sql.execute(b"SELECT pg_stat_reset_shared('bgwriter')")

    with pytest.raises(Snooze, match="may have happened"):
        held.deafened(crashes).write(effect)
    assert (held.effects, held.status) == (1, "processing")


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


def test_a_commit_that_the_server_ends_while_it_is_asked_for_again_is_recognised(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = held.deafened(lambda _first, _begun: None)
    store = context._store
    complete_within = store.complete_within
    first = cast("Deaf", context._transactions).first

    def ends_meanwhile(cursor: Cursor, job: LeasedJob, stages: Mapping[str, float]) -> bool:
        if cursor.connection is not first:
            # Has been looked for in vain; the row is what is waited for now, and what comes of it is the first one's commit.
            first.commit()
        return complete_within(cursor, job, stages)

    monkeypatch.setattr(store, "complete_within", ends_meanwhile)
    context.commit(effect)
    assert (held.effects, held.status) == (1, "completed")
