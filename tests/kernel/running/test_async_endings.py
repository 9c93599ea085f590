"""However an async handler ends, its job has one outcome: the ways are those of handlers in threads."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from typing import TYPE_CHECKING, Any

from tests.kernel.running.test_endings import COMPLETED, DEEDS, ERRORS, RETRIED, RETURNED, VERDICTS, Once, recurse
from tests.support.gated_worker import Later

from jobqueue.kernel import Queue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Context, Job

    Way = Callable[[Job, Context], Awaitable[object]]


def raising(make: Callable[[], BaseException], *, after: str = "") -> Way:
    async def handler(_job: Job, context: Context) -> None:
        if after == "a rest":
            await asyncio.sleep(0)
        elif after == "its commit":
            await context.acommit(lambda _cursor: None)
        raise make()

    return handler


def returning(make: Callable[[], object]) -> Way:
    async def handler(_job: Job, _context: Context) -> object:
        await asyncio.sleep(0)
        return make()

    return handler


def raising_within(make: Callable[[], BaseException], how: str) -> Way:
    def effects(_cursor: object) -> None:
        raise make()

    async def handler(_job: Job, context: Context) -> None:
        await getattr(context, how)(effects)

    return handler


def in_a_thread(deed: Callable[[Job, Context], object]) -> Way:
    async def handler(job: Job, context: Context) -> object:
        return await asyncio.to_thread(deed, job, context)

    return handler


async def cancels_itself(_job: Job, _context: Context) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def leaks_a_lock(_job: Job, _context: Context) -> None:
    await asyncio.Lock().acquire()


async def leaves_a_task(_job: Job, _context: Context) -> None:
    left.append(asyncio.create_task(asyncio.Event().wait()))


async def runs_out_of_time(_job: Job, _context: Context) -> None:
    async with asyncio.timeout(0.001):
        await asyncio.Event().wait()


async def fails_in_a_group(_job: Job, _context: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(600))
        group.create_task(asyncio.wait_for(asyncio.Event().wait(), 0.001))


async def recurses(_job: Job, _context: Context) -> None:
    recurse()


async def exits(_job: Job, _context: Context) -> None:
    sys.exit(1)


left: list[asyncio.Task[Any]] = []

ON_THE_LOOP: dict[str, tuple[Way, tuple[str, int]]] = {
    "cancels itself": (cancels_itself, RETRIED),
    "leaks a lock": (leaks_a_lock, COMPLETED),
    "leaves a task": (leaves_a_task, COMPLETED),
    "runs out of time": (runs_out_of_time, RETRIED),
    "fails in a group": (fails_in_a_group, RETRIED),
    "recurses": (recurses, RETRIED),
    "exits": (exits, RETRIED),
}


def ways() -> Iterator[tuple[str, Way, tuple[str, int]]]:
    """Each way's name, a handler that ends in it, and what is left."""
    for name, (make, ending) in VERDICTS.items():
        yield f"raises {name}", raising(make), ending
        yield f"raises {name} after a rest", raising(make, after="a rest"), ending
        yield f"returns {name}", returning(make), ending
        yield f"raises {name} in its transaction", raising_within(make, "acommit"), ending
    for name, error in ERRORS.items():
        yield f"raises {name}", raising(error), RETRIED
        yield f"raises {name} after a rest", raising(error, after="a rest"), RETRIED
        yield f"raises {name} after its commit", raising(error, after="its commit"), COMPLETED
        if name != "StopIteration":  # Nothing that is awaited can raise it.
            yield f"raises {name} in a write", raising_within(error, "awrite"), RETRIED
    for name, (make_any, ending) in RETURNED.items():
        yield f"returns {name}", returning(make_any), ending
    for name, (deed, ending) in DEEDS.items():
        yield f"in a thread of its own {name}", in_a_thread(deed.anew() if isinstance(deed, Once) else deed), ending
    for name, (way, ending) in ON_THE_LOOP.items():
        yield name, way, ending


def test_however_an_async_handler_ends_its_job_has_one_outcome(rig: Rig) -> None:
    handlers = {name: (handler, ending) for name, handler, ending in ways()}
    assert len(handlers) > 100
    rig.sql.execute("INSERT INTO jobs (kind) SELECT unnest(%s::text[])", [list(handlers)])

    async def handle(job: Job, context: Context) -> Any:
        return await handlers[str(job.columns["kind"])][0](job, context)

    worker = rig.unstarted(Queue("jobs", handle, columns=("kind",), backoff=Later(), limit=25), concurrency=1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert worker.run_once(60.0)
        gc.collect()
    found = {
        kind: (status, retries)
        for kind, status, retries in rig.rows("SELECT kind, status, retry_count FROM jobs ORDER BY id")
    }
    assert found == {name: ending for name, (_, ending) in handlers.items()}
    assert rig.rows("SELECT kind FROM jobs WHERE lease_expires_at IS NOT NULL OR locked_by IS NOT NULL") == []
    assert rig.rows("SELECT kind FROM jobs WHERE status <> 'completed' AND error_message IS NULL") == []
    assert [str(warning.message) for warning in warned if "never awaited" in str(warning.message)] == []
    assert (worker._places.in_flight, len(worker._leases), worker._completer.unrecorded) == (0, 0, 0)
    assert all(task.done() for task in left)
