"""A statement takes as long as it takes, and is given up once its server lets nobody in any more."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from jobqueue import database_watch
from jobqueue.database_session import connect
from jobqueue.database_watch import watched_from_elsewhere
from jobqueue.demo.launch import free_port


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_watch, "_ASK_EVERY", 0.05)
    monkeypatch.setattr(database_watch, "_SILENCE", 0.3)


def test_a_statement_is_waited_for_while_the_server_answers_others(database: str) -> None:
    with connect(database, "test", silence=None) as session, watched_from_elsewhere(session, database):
        assert session.execute(b"SELECT 7 FROM pg_sleep(1)").fetchone() == (7,)


def test_it_is_given_up_when_the_server_answers_nobody(database: str) -> None:
    nobody = make_conninfo(database, port=str(free_port()))
    with connect(database, "test", silence=None) as session, watched_from_elsewhere(session, nobody):
        with pytest.raises(psycopg.OperationalError):
            session.execute(b"SELECT pg_sleep(60)")
        assert session.closed
