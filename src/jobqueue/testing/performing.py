"""Calls a handler as a worker does, with neither a worker nor a database."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from jobqueue.errors import JobError, LeaseLost
from jobqueue.hosting.signatures import read_signature
from jobqueue.kernel import Context, Job
from jobqueue.kernel.queue import is_async

if TYPE_CHECKING:
    import psycopg

Rows = Sequence[tuple[Any, ...]]

Answer = Callable[[str, Any], Rows | None]
"""Gives the rows of a query and its parameters; None where they are as they would be without it."""

# How an insert says that it wants the id of its row, as `jobqueue.enqueue` does.
_WANTS_ID = re.compile(r"\bRETURNING\s+id\s*$", re.IGNORECASE)


class Statement(NamedTuple):
    """What a handler had executed: the statement as it was written, and its parameters."""

    query: str
    params: Any


@dataclass(slots=True)
class Performed:
    """What a handler did. `statements` are those of its transactions, and its reads, in order; none where a cursor was given.

    `committed`: it completed its job itself, with `context.commit`. `checkpoints` counts the calls. `stages` are seconds by name.
    """

    committed: bool = False
    checkpoints: int = 0
    statements: list[Statement] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)


def perform(
    handler: Callable[[Any, Context], object],
    row: object = None,
    *,
    cursor: psycopg.Cursor[Any] | None = None,
    answer: Answer | None = None,
    draining: bool = False,
    attempt: int = 1,
) -> Performed:
    """Call `handler` in this thread with `row` and a context that records what it does. One that is an `async def` is run to its end.

    `row` is what the handler takes: an instance of its type, or a dict of columns or of a payload, which is checked against the
    type as a worker checks it. A handler that takes a Job finds the dict in `job.columns`. Middleware is not called.

    Statements of `context.read`, `write` and `commit` run on `cursor`, which is neither committed nor rolled back; without one
    they are recorded, and `answer(query, params)` gives their rows: by default none, and a new id where a statement ends
    RETURNING id. `draining` is what `context.draining` says.

    Raises what the handler raises, or returns instead of raising it, and Permanent for a dict that does not fit its type. Raises
    ConfigurationError for a handler that no worker would take.
    """
    call, done = _prepare(handler, row, cursor, answer, draining, attempt)
    returned = call()
    _raise_verdict(asyncio.run(returned) if inspect.iscoroutine(returned) else returned)
    return done


async def perform_async(
    handler: Callable[[Any, Context], object],
    row: object = None,
    *,
    cursor: psycopg.Cursor[Any] | None = None,
    answer: Answer | None = None,
    draining: bool = False,
    attempt: int = 1,
) -> Performed:
    """As `perform`, for a test that runs on an event loop itself."""
    call, done = _prepare(handler, row, cursor, answer, draining, attempt)
    returned = call()
    _raise_verdict(await returned if inspect.iscoroutine(returned) else returned)
    return done


def _prepare(
    handler: Callable[[Any, Context], object],
    row: object,
    cursor: psycopg.Cursor[Any] | None,
    answer: Answer | None,
    draining: bool,
    attempt: int,
) -> tuple[Callable[[], object], Performed]:
    argument = read_signature(handler).argument
    done = Performed()
    columns = row if isinstance(row, Mapping) else {}
    job = Job("test", 1, 5, attempt - 1, max(5, attempt), 0.0, columns)
    if argument is None:
        first: object = row if isinstance(row, Job) else job
    else:
        first = argument.read(row, "row") if isinstance(row, Mapping) else row
    lent = cursor or cast("psycopg.Cursor[Any]", RecordingCursor(done.statements, answer))
    double = LoopContextDouble if is_async(handler) else ContextDouble
    return partial(handler, first, double(job, done, lent, draining=draining)), done


def _raise_verdict(returned: object) -> None:
    if isinstance(returned, JobError):
        raise returned


class ContextDouble(Context):
    """A context of a job that nobody else wants: its lease is held until the handler has committed."""

    __slots__ = ("_cursor", "_done")

    def __init__(self, job: Job, done: Performed, cursor: psycopg.Cursor[Any], *, draining: bool) -> None:
        self._job = cast("Any", job)
        self._done = done
        self._cursor = cursor
        self._draining = threading.Event()
        if draining:
            self._draining.set()
        self.stages = done.stages
        self.without_database = 0.0
        self.committed = False

    def checkpoint(self) -> None:
        """Count it. Raises LeaseLost after a commit."""
        self._hold()
        self._done.checkpoints += 1

    def read(self, query: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """As the context's."""
        self._hold()
        return self._cursor.execute(query.encode(), params).fetchall()

    def write(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> None:
        """As the context's."""
        self._hold()
        effects(self._cursor)

    def commit(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> None:
        """As the context's."""
        self._hold()
        effects(self._cursor)
        self.committed = self._done.committed = True

    def _hold(self) -> None:
        if self.committed:
            raise LeaseLost("the job was completed by context.commit: the handler must return after that")


class LoopContextDouble(ContextDouble):
    """The context of an async handler, which awaits what it does."""

    __slots__ = ()

    def checkpoint(self) -> None:
        """Refused, as on a worker's loop, and so are `read`, `write` and `commit`. Raises RuntimeError."""
        _refuse()

    read = write = commit = cast("Any", staticmethod(lambda *_: _refuse()))

    async def acheckpoint(self) -> None:
        """As `checkpoint`."""
        super().checkpoint()

    async def aread(self, query: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """As the context's."""
        return super().read(query, params)

    async def awrite(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> None:
        """As the context's."""
        super().write(effects)

    async def acommit(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> None:
        """As the context's."""
        super().commit(effects)


def _refuse() -> None:
    raise RuntimeError("an async handler awaits context.acheckpoint, aread, awrite and acommit")


class RecordingCursor:
    """What effects get in place of a cursor: it writes down what is executed, and has the rows that `answer` gives."""

    def __init__(self, statements: list[Statement], answer: Answer | None) -> None:
        self._statements = statements
        self._answer = answer
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.rowcount = 0

    def execute(self, query: Any, params: Any = None, **_: object) -> RecordingCursor:
        """Record the statement, and have its rows ready. `rowcount` is how many those are, and 1 without any."""
        text = query.decode() if isinstance(query, bytes) else query if isinstance(query, str) else query.as_string()
        self._statements.append(Statement(text, params))
        given = self._answer(text, params) if self._answer else None
        rows = self._usual(text) if given is None else list(given)
        self._rows = iter(rows)
        self.rowcount = len(rows) or 1
        return self

    def executemany(self, query: Any, params_seq: Any, **_: object) -> None:
        """Record the statement once for each of its parameters."""
        for params in params_seq:
            self.execute(query, params)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, None after the last."""
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that are left."""
        return list(self._rows)

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """The next `size` rows."""
        return [row for _, row in zip(range(size), self._rows, strict=False)]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def _usual(self, text: str) -> list[tuple[Any, ...]]:
        return [(len(self._statements),)] if _WANTS_ID.search(text) else []
