"""What goes around handlers: tracing, error trackers, context variables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from jobqueue.kernel import Context, Job
from jobqueue.kernel.queue import called_name, is_async
from jobqueue.kernel.running.runner import raise_returned

if TYPE_CHECKING:
    from collections.abc import Sequence

Middleware = Callable[[Callable[[], None], Job, Context], None]
"""Is called with `call_next`, the job and its context. `call_next()` calls what is further in, the handler at last, and raises
what that raises. It must be called once: a job whose handler was not called has failed."""

AsyncMiddleware = Callable[[Callable[[], Awaitable[None]], Job, Context], Awaitable[None]]
"""The same around an async handler: both are awaited."""

Call = Callable[[Job, Context], Any]


def wrap(handler: Call, layers: Sequence[Middleware | AsyncMiddleware]) -> Call:
    """The handler with those of `layers` around it that are of its sort, the outermost first: each `async def` around async
    handlers, each plain function around the others. Without any it is the handler itself."""
    awaited = is_async(handler)
    around: list[Any] = [layer for layer in layers if is_async(layer) is awaited]
    if not around:
        return handler
    wrapped = _raising_async(handler) if awaited else _raising(handler)
    for layer in reversed(around):
        wrapped = _within_async(layer, wrapped) if awaited else _within(layer, wrapped)
    return wrapped


def _raising(handler: Call) -> Call:
    """The handler, which raises what it would return and must not, or means as raised: those around it see every end in one way."""

    def call(job: Job, context: Context) -> None:
        raise_returned(handler(job, context))

    return call


def _raising_async(handler: Call) -> Call:
    async def call(job: Job, context: Context) -> None:
        raise_returned(await handler(job, context))

    return call


def _within(layer: Middleware, inner: Call) -> Call:
    def call(job: Job, context: Context) -> None:
        once = _Once(layer)

        def call_next() -> None:
            once.begin()
            inner(job, context)

        layer(call_next, job, context)
        once.end()

    return call


def _within_async(layer: AsyncMiddleware, inner: Call) -> Call:
    async def call(job: Job, context: Context) -> None:
        once = _Once(layer)

        async def call_next() -> None:
            once.begin()
            await inner(job, context)

        await layer(call_next, job, context)
        once.end()

    return call


class _Once:
    """Holds a middleware to calling what is further in once."""

    __slots__ = ("_called", "_layer")

    def __init__(self, layer: object) -> None:
        self._layer = layer
        self._called = False

    def begin(self) -> None:
        if self._called:
            raise RuntimeError(f"the middleware {called_name(self._layer)} called call_next twice")
        self._called = True

    def end(self) -> None:
        if not self._called:
            raise RuntimeError(f"the middleware {called_name(self._layer)} returned without having called call_next")
