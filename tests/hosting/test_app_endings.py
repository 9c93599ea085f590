"""However a handler of an app ends, with middleware around it, its job has the one outcome that it has without."""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING

from tests.kernel.running import test_async_endings, test_endings

from jobqueue import App, Context, Job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.kernel.helpers import Rig


def taking(handler: Callable[[Job, Context], object]) -> Callable[[Job, Context], object]:
    """The handler with a type that is there while the program runs."""

    def handle(job: Job, context: Context) -> object:
        return handler(job, context)

    return handle


def awaiting(way: test_async_endings.Way) -> test_async_endings.Way:
    async def handle(job: Job, context: Context) -> object:
        return await way(job, context)

    return handle


def test_however_a_handler_ends_its_job_has_one_outcome(rig: Rig) -> None:
    app, left, around = App(), dict[str, str](), list[str]()
    for name, handler, (status, _) in test_endings.ways():
        app.kind(name)(taking(handler))
        left[name] = status
    for name, way, (status, _) in test_async_endings.ways():
        app.kind(f"async: {name}")(awaiting(way))
        left[f"async: {name}"] = status

    @app.around
    def plain(call_next: Callable[[], None], job: Job, context: Context) -> None:
        around.append(job.columns["kind"])
        call_next()

    @app.around
    async def awaited(call_next: Callable[[], Awaitable[None]], job: Job, context: Context) -> None:
        around.append(job.columns["kind"])
        await call_next()

    rig.sql.execute("INSERT INTO jobs (kind) SELECT unnest(%s::text[])", [list(left)])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert rig.unstarted(*app.queues(), concurrency=8).run_once(60.0)
        gc.collect()
    assert dict(rig.rows("SELECT kind, status FROM jobs ORDER BY id")) == left
    assert set(around) == set(left)
    assert rig.rows("SELECT kind FROM jobs WHERE lease_expires_at IS NOT NULL OR locked_by IS NOT NULL") == []
    assert [str(warning.message) for warning in warned if "never awaited" in str(warning.message)] == []
