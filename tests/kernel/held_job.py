"""One job that is held, its context, and transactions whose client is cut off from their end."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import psycopg

from jobqueue.kernel import Context
from jobqueue.kernel.leasing.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.helpers import Rig

    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.running.transactions import Transactions

Connection = psycopg.Connection[Any]
Cursor = psycopg.Cursor[Any]


class Held:
    """One job that is held, and its context."""

    def __init__(self, rig: Rig, job: LeasedJob, transactions: Transactions) -> None:
        self.rig = rig
        self.job = job
        self.transactions = transactions
        self.interrupted, self.draining = threading.Event(), threading.Event()
        self._leases = Leases(60.0)
        self._leases.hold([job])
        self.context = self._context(transactions)

    def _context(self, transactions: Transactions) -> Context:
        return Context(self.job, self.rig.store(), self._leases, transactions, self.interrupted, self.draining)

    def deafened(self, then: Callable[[Connection, int], None]) -> Context:
        """Its context with the first transaction's answer lost."""
        deaf = Deaf(self.rig.connect(autocommit=False), self.transactions, then)
        return self._context(cast("Transactions", deaf))

    @property
    def effects(self) -> int:
        return int(self.rig.value("SELECT count(*) FROM effects"))

    @property
    def status(self) -> str:
        return str(self.rig.row(self.job.id)["status"])


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


def effect(cursor: Cursor) -> None:
    cursor.execute(b"INSERT INTO effects DEFAULT VALUES")
