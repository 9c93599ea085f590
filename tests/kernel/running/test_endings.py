"""However a handler ends, its job has one outcome: no row stays leased, no thread is lost."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import warnings
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
import pytest
from tests.support.gated_worker import Later
from tests.support.waiting import eventually

from jobqueue.errors import Cancelled, Interrupted, JobError, LeaseLost, Permanent, Retry, Snooze
from jobqueue.kernel import Queue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Context, Job

# What is left in the row: its state, and how many attempts were charged.
COMPLETED, FAILED, CANCELLED = ("completed", 0), ("failed", 5), ("cancelled", 0)
RETRIED, PUT_OFF = ("pending", 1), ("pending", 0)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Odd(Exception):
    def __str__(self) -> str:
        return 42  # type: ignore[return-value]  # noqa: PLE0307


class Leaving(Exception):
    def __str__(self) -> str:  # noqa: PLE0307
        sys.exit(3)


class Endless(Exception):
    def __str__(self) -> str:
        return str(self)


class MutePermanent(Permanent):
    def __str__(self) -> str:
        raise ValueError("no text")


class Evil(str):
    """A text that cannot be handled."""

    __slots__ = ()

    def replace(self, *_: Any, **__: Any) -> NoReturn:
        raise ValueError("hands off")


class EvilText(Permanent):
    def __str__(self) -> str:
        return Evil("evil")


class BareSnooze(Snooze):
    def __init__(self) -> None:
        JobError.__init__(self, "without its seconds")


class BareRetry(Retry):
    def __init__(self) -> None:
        JobError.__init__(self, "without its wait")


class NoException(BaseException):
    """A class of its own beside Exception."""


def looped() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def long_chain() -> Exception:
    last = ValueError("0")
    for number in range(3_000):
        following = ValueError(str(number))
        following.__cause__ = last
        last = following
    return last


def spoilt(error: Any, **attributes: object) -> BaseException:
    for name, value in attributes.items():
        setattr(error, name, value)
    assert isinstance(error, BaseException)
    return error


# Raised as they are made: some cannot be made, which is how the handler ends then.
VERDICTS: dict[str, tuple[Callable[[], BaseException], tuple[str, int]]] = {
    "Permanent": (lambda: Permanent("no"), FAILED),
    "Permanent without a text": (Permanent, FAILED),
    "Permanent of an object": (lambda: Permanent(object()), FAILED),
    "Permanent that is mute": (lambda: MutePermanent("no"), FAILED),
    "Permanent of an evil text": (lambda: EvilText("no"), FAILED),
    "Permanent of NUL and surrogates": (lambda: Permanent("\0\ud800" * 5_000), FAILED),
    "Cancelled": (lambda: Cancelled("unwanted"), CANCELLED),
    "Snooze": (lambda: Snooze("later", 600), PUT_OFF),
    "Snooze timedelta": (lambda: Snooze("later", timedelta(hours=1)), PUT_OFF),
    "Snooze Decimal": (lambda: Snooze("later", Decimal(600)), PUT_OFF),
    "Snooze infinite": (lambda: Snooze("later", float("inf")), PUT_OFF),
    "Snooze huge": (lambda: Snooze("later", 10**400), PUT_OFF),
    "Snooze None": (lambda: Snooze("later", None), RETRIED),  # type: ignore[arg-type]
    "Snooze changed": (lambda: spoilt(Snooze("later", 600), seconds=timedelta(hours=1)), PUT_OFF),
    "Snooze text": (lambda: Snooze("later", "600"), RETRIED),  # type: ignore[arg-type]
    "Snooze spoilt": (lambda: spoilt(Snooze("later", 600), seconds=None), RETRIED),
    "Snooze bare": (BareSnooze, RETRIED),
    "Retry": (lambda: Retry("again"), RETRIED),
    "Retry seconds": (lambda: Retry("again", after=600), RETRIED),
    "Retry timedelta": (lambda: Retry("again", after=timedelta(hours=1)), RETRIED),
    "Retry longest timedelta": (lambda: Retry("again", after=timedelta.max), RETRIED),
    "Retry text": (lambda: Retry("again", after="600"), RETRIED),  # type: ignore[arg-type]
    "Retry spoilt": (lambda: spoilt(Retry("again"), after="600"), RETRIED),
    "Retry bare": (BareRetry, RETRIED),
    "JobError": (lambda: JobError("of no kind"), RETRIED),
    "LeaseLost of its own": (lambda: LeaseLost("so it says"), RETRIED),
}

ERRORS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("bad"),
    "KeyError without a text": KeyError,
    "mute": Mute,
    "odd": Odd,
    "leaving": Leaving,
    "endless": Endless,
    "no exception": lambda: NoException("base"),
    "SystemExit": lambda: SystemExit(0),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "StopIteration": lambda: StopIteration(1),
    "StopAsyncIteration": StopAsyncIteration,
    "TimeoutError": TimeoutError,
    "Warning": lambda: DeprecationWarning("old"),
    "group": lambda: ExceptionGroup("several", [Permanent("one of them"), ValueError("another")]),
    "group of all": lambda: BaseExceptionGroup("several", [KeyboardInterrupt()]),
    "causes in a loop": looped,
    "causes in a long chain": long_chain,
    "notes that are none": lambda: spoilt(ValueError("x"), __notes__=7),
}


async def awaited() -> None: ...


def generated() -> Iterator[int]:
    yield 1


async def generated_asynchronously() -> AsyncIterator[int]:
    yield 1


RETURNED: dict[str, tuple[Callable[[], object], tuple[str, int]]] = {
    "None": (lambda: None, COMPLETED),
    "False": (lambda: False, COMPLETED),
    "a text": (lambda: "done", COMPLETED),
    "an exception that is no verdict": (lambda: ValueError("not raised"), COMPLETED),
    "a mute object": (Mute, COMPLETED),
    "the class Permanent": (lambda: Permanent, RETRIED),
    "a coroutine": (awaited, RETRIED),
    "a generator": (generated, RETRIED),
    "an asynchronous generator": (generated_asynchronously, RETRIED),
}


def recurse() -> None:
    recurse()


def unpack_nothing() -> None:
    [_] = list[int]()


class Once:
    """Raises the first time that it is called."""

    def __init__(self, error: BaseException) -> None:
        self._first = error
        self._error: BaseException | None = error

    def anew(self) -> Once:
        """One that has not been called, for another test."""
        return Once(self._first)

    def __call__(self, *_: object) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


def rename(job: Job, _: Context) -> None:
    job.id, job.queue = 10**9, "nowhere"


def miscount(job: Job, _: Context) -> None:
    job.retry_count = "many"  # type: ignore[assignment]
    raise ValueError("miscounted")


def leak_a_lock(*_: object) -> None:
    threading.Lock().acquire()


def executes(*statements: str) -> Callable[[psycopg.Cursor[Any]], None]:
    def effects(cursor: psycopg.Cursor[Any]) -> None:
        for statement in statements:
            cursor.execute(statement.encode())

    return effects


def passed_over(cursor: psycopg.Cursor[Any]) -> None:
    with pytest.raises(psycopg.Error):
        cursor.execute(b"SELECT 1 / 0")


def end_of(how: str, times: int = 9) -> Callable[[psycopg.Cursor[Any]], None]:
    """Effects that end their transaction, the first `times` that they are called."""
    left = [how] * times

    def effects(cursor: psycopg.Cursor[Any]) -> None:
        if left:
            getattr(cursor.connection, left.pop())()

    return effects


def in_transaction(effects: Callable[[psycopg.Cursor[Any]], object]) -> Callable[[Job, Context], None]:
    return lambda _, context: context.commit(effects)


def killed_once() -> Callable[[Job, Context], None]:
    left = ["SELECT pg_terminate_backend(pg_backend_pid())"]

    def effects(cursor: psycopg.Cursor[Any]) -> None:
        if left:
            cursor.execute(left.pop().encode())

    return in_transaction(effects)


DEEDS: dict[str, tuple[Callable[[Job, Context], object], tuple[str, int]]] = {
    "recurses": (lambda *_: recurse(), RETRIED),
    "sys.exit": (lambda *_: sys.exit("bye"), RETRIED),
    "unpacks nothing": (lambda *_: unpack_nothing(), RETRIED),
    "raises what is no exception": (lambda *_: Once(42)(), RETRIED),  # type: ignore[arg-type]
    "interrupts itself once": (Once(Interrupted("of itself")), COMPLETED),
    "renames its job": (rename, COMPLETED),
    "miscounts its job": (miscount, RETRIED),
    "leaks a lock": (leak_a_lock, COMPLETED),
    "commits": (in_transaction(executes("SELECT 1")), COMPLETED),
    "fails in its transaction": (in_transaction(executes("SELECT 1 / 0")), RETRIED),
    "passes over a failure": (in_transaction(passed_over), RETRIED),
    "closes the cursor": (in_transaction(lambda cursor: cursor.close()), COMPLETED),
    "rolls back by SQL": (in_transaction(executes("ROLLBACK")), RETRIED),
    "commits by SQL": (in_transaction(executes("COMMIT")), COMPLETED),
    "rolls back": (in_transaction(end_of("rollback")), RETRIED),
    "closes the connection": (in_transaction(end_of("close", 1)), COMPLETED),
    "has its server process killed once": (killed_once(), COMPLETED),
    "takes another role": (in_transaction(executes("SET LOCAL ROLE pg_monitor")), COMPLETED),
    "deletes a thread's name": (lambda *_: setattr(threading.current_thread(), "name", ""), COMPLETED),
}


def raising(make: Callable[[], BaseException]) -> Callable[[Job, Context], object]:
    def handler(_job: Job, _context: Context) -> NoReturn:
        raise make()

    return handler


def raising_within(make: Callable[[], BaseException], how: str) -> Callable[[Job, Context], object]:
    def effects(_cursor: object) -> NoReturn:
        raise make()

    def handler(_job: Job, context: Context) -> None:
        with context.stage("within"):
            getattr(context, how)(effects)

    return handler


def after_commit(make: Callable[[], object], *, raised: bool) -> Callable[[Job, Context], object]:
    def handler(_job: Job, context: Context) -> object:
        context.commit(lambda _cursor: None)
        made = make()
        if raised and isinstance(made, BaseException):
            raise made
        return made

    return handler


def ways() -> Iterator[tuple[str, Callable[[Job, Context], object], tuple[str, int]]]:
    """Each way's name, a handler that ends in it, and what is left."""
    for name, (make, left) in VERDICTS.items():
        yield f"raises {name}", raising(make), left
        yield f"returns {name}", lambda *_, make=make: make(), left
        yield f"raises {name} in its transaction", raising_within(make, "commit"), left
        yield f"returns {name} after its commit", after_commit(make, raised=False), COMPLETED
    for name, error in ERRORS.items():
        yield f"raises {name}", raising(error), RETRIED
        yield f"raises {name} in a write", raising_within(error, "write"), RETRIED
        yield f"raises {name} after its commit", after_commit(error, raised=True), COMPLETED
    for name, (make_any, left) in RETURNED.items():
        yield f"returns {name}", lambda *_, make=make_any: make(), left
    for name, (deed, left) in DEEDS.items():
        yield name, deed.anew() if isinstance(deed, Once) else deed, left


def test_however_a_handler_ends_its_job_has_one_outcome(rig: Rig) -> None:
    handlers = {name: (handler, left) for name, handler, left in ways()}
    assert len(handlers) > 100
    rig.sql.execute("INSERT INTO jobs (kind) SELECT unnest(%s::text[])", [list(handlers)])

    def handle(job: Job, context: Context) -> Any:
        return handlers[str(job.columns["kind"])][0](job, context)

    worker = rig.unstarted(Queue("jobs", handle, columns=("kind",), backoff=Later()), concurrency=8)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert worker.run_once(60.0)
        gc.collect()
    found = {
        kind: (status, retries)
        for kind, status, retries in rig.rows("SELECT kind, status, retry_count FROM jobs ORDER BY id")
    }
    assert found == {name: left for name, (_, left) in handlers.items()}
    assert rig.rows("SELECT kind FROM jobs WHERE lease_expires_at IS NOT NULL OR locked_by IS NOT NULL") == []
    assert rig.rows("SELECT kind FROM jobs WHERE status <> 'completed' AND error_message IS NULL") == []  # fmt: skip
    assert rig.value("SELECT max(run_after) < now() + interval '31 days' FROM jobs")
    assert [str(warning.message) for warning in warned if "never awaited" in str(warning.message)] == []
    ended: Counter[str] = Counter()

    def all_are_counted() -> bool:
        ended.clear()
        for metric in worker.metrics.registry.collect():
            for sample in metric.samples:
                if sample.name == "jobqueue_jobs_finished_total":
                    ended[sample.labels["outcome"]] += int(sample.value)
        # One came back once, by its own word.
        return sum(ended.values()) == len(handlers) + 1

    # An outcome is counted a moment after it was recorded.
    eventually(all_are_counted)
    assert (worker._pool.in_flight, len(worker._leases), worker._completer.unrecorded) == (0, 0, 0)


def test_a_job_whose_thread_is_ended_from_outside_its_handler_has_an_outcome(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an exception that another thread sets in it, which arrives when the handler is through."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    rig.insert(3)
    worker = rig.unstarted(Queue("jobs", lambda *_: None, backoff=Later()), concurrency=1)
    run, hit = worker._runner.run, Once(SystemExit())

    def interrupted(*args: Any) -> Any:
        hit()
        return run(*args)

    monkeypatch.setattr(worker._runner, "run", interrupted)
    assert worker.run_once(20.0)
    assert rig.rows("SELECT status, retry_count, error_message, lease_expires_at FROM jobs ORDER BY id") == [
        ("pending", 1, "SystemExit", None),
        ("completed", 0, None, None),
        ("completed", 0, None, None),
    ]
    assert worker.stuck() is None
