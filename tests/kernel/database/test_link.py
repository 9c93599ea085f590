"""A link's statements: what every one of them can rely on. For how they are prepared see test_prepared.py."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from psycopg import errors
from tests.support.isolation import LEVELS, default_isolation

from jobqueue.kernel.database.link import Link

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
