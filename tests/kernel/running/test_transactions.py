"""Handlers' connections: what becomes of the attempts to open them while the database is away."""

from __future__ import annotations

import psycopg
import pytest
from tests.support.waiting import eventually

from jobqueue.demo.launch import HOST, free_port
from jobqueue.kernel.running import transactions
from jobqueue.kernel.running.transactions import Transactions


def test_no_attempt_is_left_to_come_late_when_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool's own attempts become rarer the longer it is away: while one of them waits, nobody else may begin one."""
    monkeypatch.setattr(transactions, "_WAIT", 0.1)
    pool = Transactions(f"host={HOST} port={free_port()} connect_timeout=2", 1)
    pool.open()
    try:
        with pytest.raises(psycopg.OperationalError), pool.begin():
            pass
        eventually(lambda: pool._pool.get_stats()["pool_size"] == 0)
    finally:
        pool.close()
