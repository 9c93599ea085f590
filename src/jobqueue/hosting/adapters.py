"""Makes of a host's function what the kernel calls with a job and a context; an async one stays async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobqueue.errors import JobError, Permanent
from jobqueue.kernel.queue import is_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.hosting.middleware import Call
    from jobqueue.kernel import Context, Job


def giving(handler: Callable[[Any, Context], Any], first: Callable[[Job], Any]) -> Call:
    """A handler of jobs that calls `handler` with what `first` makes of the job, and the context."""
    if is_async(handler):

        async def awaited(job: Job, context: Context) -> Any:
            return await handler(first(job), context)

        return awaited

    def called(job: Job, context: Context) -> Any:
        return handler(first(job), context)

    return called


def permanently(handler: Call, classes: tuple[type[BaseException], ...]) -> Call:
    """The handler, which raises Permanent for what it raises of these classes; a verdict stays what it is."""
    if not classes:
        return handler
    if is_async(handler):

        async def awaited(job: Job, context: Context) -> Any:
            try:
                return await handler(job, context)
            except JobError:
                raise
            except classes as error:
                raise _permanent(error) from error

        return awaited

    def called(job: Job, context: Context) -> Any:
        try:
            return handler(job, context)
        except JobError:
            raise
        except classes as error:
            raise _permanent(error) from error

    return called


def _permanent(error: BaseException) -> Permanent:
    text = str(error)
    return Permanent(f"{type(error).__name__}: {text}" if text else type(error).__name__)
