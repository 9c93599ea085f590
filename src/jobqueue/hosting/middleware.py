"""What goes around handlers: tracing, error trackers, context variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobqueue.errors import JobError
from jobqueue.kernel import Context, Job

if TYPE_CHECKING:
    from collections.abc import Sequence

Middleware = Callable[[Callable[[], None], Job, Context], None]
"""Is called with `call_next`, the job and its context. `call_next()` calls what is further in, the handler at last, and raises
what that raises. It must be called once: a job whose handler was not called has failed."""

_Call = Callable[[Job, Context], Any]


def wrap(handler: _Call, layers: Sequence[Middleware]) -> _Call:
    """The handler with `layers` around it, the outermost first. Without any it is the handler itself."""
    if not layers:
        return handler
    wrapped = _raising(handler)
    for layer in reversed(layers):
        wrapped = _within(layer, wrapped)
    return wrapped


def _raising(handler: _Call) -> _Call:
    """The handler, which raises a verdict that it would return: those around it see every end in one way."""

    def call(job: Job, context: Context) -> None:
        returned = handler(job, context)
        if isinstance(returned, JobError):
            raise returned

    return call


def _within(layer: Middleware, inner: _Call) -> _Call:
    def call(job: Job, context: Context) -> None:
        called = False

        def call_next() -> None:
            nonlocal called
            if called:
                raise RuntimeError(f"the middleware {name_of(layer)} called call_next twice")
            called = True
            inner(job, context)

        layer(call_next, job, context)
        if not called:
            raise RuntimeError(f"the middleware {name_of(layer)} returned without having called call_next")

    return call


def name_of(layer: object) -> str:
    """What a middleware is called in messages."""
    return str(getattr(layer, "__qualname__", type(layer).__qualname__))
