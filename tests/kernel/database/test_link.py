"""A link's statements: what every one of them can rely on. For how they are prepared see test_prepared.py."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from tests.support.isolation import LEVELS, default_isolation
from tests.support.waiting import eventually

from jobqueue.kernel.database.link import Link, watched

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig


@pytest.mark.parametrize("prepare", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_statements_are_read_committed_whatever_the_default_is(rig: Rig, level: str, prepare: bool) -> None:
    with default_isolation(rig.dsn, level), closing(Link(rig.dsn, "isolated", prepare=prepare)) as link:
        for _ in range(2):
            assert link.fetch(b"SELECT current_setting('transaction_isolation')") == [("read committed",)]


def test_without_a_session_of_its_own_a_link_leaves_the_session_as_it_is(rig: Rig) -> None:
    with (
        default_isolation(rig.dsn, "serializable"),
        closing(Link(rig.dsn, "isolated", prepare=False)) as link,
    ):
        link.fetch(b"CREATE TABLE seen (n int)")
        with pytest.raises(errors.DivisionByZero):
            link.fetch(b"INSERT INTO seen SELECT 1 / 0")
        link.fetch(b"INSERT INTO seen VALUES (%(n)s)", {"n": 7})
        default = link.connection().execute("SHOW default_transaction_isolation").fetchone()
    # Each was committed by itself, and the failed one is not in the way of the next.
    assert (default, rig.rows("SELECT n FROM seen")) == (("serializable",), [(7,)])


def test_a_session_that_takes_no_writes_is_given_up_whatever_it_is_asked(rig: Rig) -> None:
    """One that only reads would otherwise stay with a server that was demoted while another took its place."""
    name = conninfo_to_dict(rig.dsn)["dbname"]
    alter = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} {}")
    with closing(Link(rig.dsn, "demoted")) as link:
        link.fetch(b"SELECT 1")
        rig.sql.execute(alter.format(sql.Identifier(str(name)), sql.SQL("SET default_transaction_read_only = on")))
        link.close()
        for _ in range(2):
            with pytest.raises(errors.ReadOnlySqlTransaction, match="default_transaction_read_only is on"):
                link.fetch(b"SELECT 1")
        rig.sql.execute(alter.format(sql.Identifier(str(name)), sql.SQL("RESET default_transaction_read_only")))
        assert link.fetch(b"SELECT 1") == [(1,)]
        # The server tells a session that is there of the change, with the answer to whatever it asks next.
        link.fetch(b"SET default_transaction_read_only = on")
        with pytest.raises(errors.ReadOnlySqlTransaction):
            link.fetch(b"SELECT 1")
        assert link.fetch(b"SELECT 1") == [(1,)]


WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'jobqueue:cut' AND datname = current_database()"
)


def test_a_session_that_was_cut_while_it_waited_leaves_nobody_waiting_on_the_server(rig: Rig) -> None:
    """The server does not look whether the client of one that waits for a lock is there; each would be followed by another."""
    rig.sql.execute(b"CREATE TABLE held (n int); INSERT INTO held VALUES (1)")
    holder = rig.connect(autocommit=False)
    holder.execute(b"UPDATE held SET n = 2")
    with closing(Link(rig.dsn, "cut", timeout=0.2)) as link:
        for _ in range(4):
            with watched(link), pytest.raises(psycopg.OperationalError):
                link.fetch(b"UPDATE held SET n = 3")
            assert rig.value(WAITING) <= 2
        assert link.fetch(b"SELECT 1") == [(1,)]
        eventually(lambda: rig.value(WAITING) == 1)
