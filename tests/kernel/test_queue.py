"""What a queue and a worker cannot be told: each is refused in a sentence, before any job could suffer from it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from jobqueue.errors import ConfigurationError, Retry
from jobqueue.kernel import Queue, Worker, WorkerOptions
from jobqueue.kernel.queue import route_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.kernel.helpers import Rig


def nothing(*_: Any) -> None:
    """A handler."""


async def awaited(*_: Any) -> None:
    """Await a job."""


def generated(*_: Any) -> Iterator[int]:
    yield 1


async def generated_asynchronously(*_: Any) -> AsyncIterator[int]:
    yield 1


class Handlers:
    """An object, and methods of one."""

    def __call__(self, *_: Any) -> None:
        """Do a job."""

    def plain(self, *_: Any) -> None:
        """Do a job."""

    async def awaited(self, *_: Any) -> None:
        """Await a job."""


class Awaited:
    """An object whose call is awaited."""

    async def __call__(self, *_: Any) -> None:
        """Await a job."""


UNFIT: list[tuple[Any, str]] = [
    (generated, "generated is a generator"),
    (generated_asynchronously, "generated_asynchronously is a generator"),
    (None, "NoneType, which cannot be called"),
    ("send", "str, which cannot be called"),
    (Handlers, "Handlers is a class"),
]


@pytest.mark.parametrize(("handler", "reason"), UNFIT)
def test_what_is_no_handler_is_refused(handler: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the queue invoices cannot use its handler: .*{reason}"):
        Queue("invoices", handler)


@pytest.mark.parametrize(
    "handler", [nothing, lambda *_: None, functools.partial(nothing, 1), Handlers(), Handlers().plain, print]
)
def test_whatever_can_be_called_in_a_thread_is_a_handler(handler: Any) -> None:
    queue = Queue("invoices", handler)
    assert (queue.handler, route_of(queue)) == (handler, None)


@pytest.mark.parametrize(
    "handler", [awaited, functools.partial(functools.partial(awaited, 1), 2), Handlers().awaited, Awaited()]
)
def test_whatever_can_be_awaited_is_an_async_handler(handler: Any) -> None:
    route = route_of(Queue("invoices", handler))
    assert route is not None
    assert route(None) is handler  # type: ignore[arg-type]


def test_a_queue_tells_all_of_its_problems() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Queue("invoices", generated, columns="customer", limit=0)  # type: ignore[arg-type]
    _, columns, limit = refused.value.problems
    assert "columns=('customer',)" in columns
    assert limit == "the queue invoices has a limit of 0: at least 1 job must be able to run"


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"global_concurrency": 0}, "has a global_concurrency of 0"),
        ({"rate": "10/s"}, r"takes a Rate as its rate: Rate\.parse\('10/s'\)"),
        ({"timeout": 0.0}, r"has a timeout of 0\.0 s"),
        ({"timeout": float("nan")}, "has a timeout of nan s"),
        ({"timeout": float("inf")}, "has a timeout of inf s"),
        ({"on_timeout": "fail"}, "has on_timeout='fail'"),
        ({"retries": 0}, "has retries of 0"),
        ({"retries": 40_000}, "has retries of 40000"),
        ({"permanent": ValueError}, "takes permanent as a tuple of exception classes"),
        ({"permanent": ("ValueError",)}, "cannot take 'ValueError' as permanent"),
        ({"permanent": (Retry,)}, "cannot take <class 'jobqueue.errors.Retry'> as permanent"),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the queue invoices {problem}"):
        Queue("invoices", nothing, **limits)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": -1}, "concurrency is -1"),
        ({"lease_seconds": 0.0}, r"lease_seconds is 0\.0"),
        ({"poll_seconds": -1.0}, r"poll_seconds is -1\.0"),
        ({"transaction_seconds": float("nan")}, "transaction_seconds is nan"),
    ],
)
def test_a_worker_cannot_be_told_what_it_could_not_do(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        WorkerOptions("", **options)


def test_a_worker_serves_a_queue_once() -> None:
    with pytest.raises(ConfigurationError, match="the queue jobs is given twice"):
        Worker(WorkerOptions(""), [Queue("jobs", nothing), Queue("work", nothing), Queue("jobs", nothing)])


def test_columns_that_the_tables_do_not_have_are_told_at_the_start(rig: Rig) -> None:
    rig.table("work")
    rig.table("gone")
    rig.sql.execute(b"DROP TABLE gone")
    worker = rig.unstarted(
        Queue("jobs", nothing, columns=("kind", "paylod", "kidn")),
        Queue("work", nothing, columns=("ctid",)),
        Queue("gone", nothing),
    )
    with pytest.raises(ConfigurationError) as refused:
        worker.start()
    assert refused.value.problems == [
        "the table public.jobs of the queue jobs has no column 'paylod' (did you mean 'payload'?), 'kidn' (did you mean 'kind'?)",
        "the table public.gone of the queue gone does not exist any more",
    ]
    assert not worker.started


def test_a_column_that_was_dropped_is_none(rig: Rig) -> None:
    rig.table("work")
    rig.sql.execute(b"ALTER TABLE work ADD COLUMN note text; ALTER TABLE work DROP COLUMN note")
    with pytest.raises(ConfigurationError, match="no column 'note'"):
        rig.unstarted(Queue("work", nothing, columns=("note",))).start()
