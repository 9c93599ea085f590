"""The host of a run: it inserts the work at a rate, in transactions of which none is lost or made twice, whatever the database does."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors
from tests.chaos import work

if TYPE_CHECKING:
    from typing import Self

    from tests.chaos.work import Work

# Seconds between two transactions.
_EVERY = 0.25


class Host(threading.Thread):
    """Inserts all of `work` within `seconds`; used as a context manager. `done` is how many pieces are in."""

    def __init__(self, dsn: str, work: Work, seconds: float) -> None:
        super().__init__(name="host", daemon=True)
        self.done = 0
        self.failure: BaseException | None = None
        self._dsn = dsn
        self._work = work
        self._rate = work.total / seconds
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()

    @property
    def finished(self) -> bool:
        """Whether everything is in. Raises what ended the host before."""
        if self.failure is not None:
            raise self.failure
        return self.done == self._work.total

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.failure = error
            raise

    def _run(self) -> None:
        began = time.monotonic()
        connection: psycopg.Connection | None = None
        while self.done < self._work.total and not self._stopping.wait(_EVERY):
            due = min(self._work.total, int((time.monotonic() - began) * self._rate) + 1)
            # What fell behind while the database was away comes in portions that a host would send.
            due = min(due, self.done + 500)
            if due == self.done:
                continue
            try:
                if connection is None:
                    connection = psycopg.connect(self._dsn, connect_timeout=5)
                self.done = self._insert(connection, due)
            except psycopg.OperationalError:
                # Whether it was committed is not known: the same numbers are tried again, and are in once.
                if connection is not None:
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _insert(self, connection: psycopg.Connection, due: int) -> int:
        """Insert what is between `done` and `due`; returns how many are in now."""
        pieces = [self._work.piece(n) for n in range(self.done, due)]
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("INSERT INTO chaos.portions (first, past) VALUES (%s, %s)", [self.done, due])
                work.insert(cursor, pieces)
        except errors.UniqueViolation:
            # An earlier attempt had been committed although its answer was lost; it may have been a smaller portion.
            with connection.transaction():
                found = connection.execute("SELECT past FROM chaos.portions WHERE first = %s", [self.done]).fetchone()
            if found is None:
                raise
            return int(found[0])
        return due
