"""The context of a job on the event loop: the same steps, awaited."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from jobqueue.errors import Interrupted, LeaseLost
from jobqueue.kernel.leasing.leases import LOOK_EVERY, LOST_LEASE, STOPPING
from jobqueue.kernel.running.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    import psycopg


class LoopContext(Context):
    """Made in the loop's thread. Transactions run in `threads`: `effects` are the plain functions that they are everywhere, and the
    fences of a lease have one implementation.

    What blocks is refused in the loop's own thread, where it would hold up every other job of the loop.
    """

    __slots__ = ("_home", "_threads")

    def __init__(self, *parts: Any, threads: Executor) -> None:
        super().__init__(*parts)
        self._threads = threads
        self._home = threading.get_ident()

    def why_cancelled(self) -> BaseException | None:
        """What a cancellation of the job's task means; None when it was not the worker that cancelled it."""
        if self._job.lost:
            return LeaseLost(LOST_LEASE)
        return Interrupted(STOPPING) if self._interrupted.is_set() else None

    def checkpoint(self) -> None:
        if threading.get_ident() == self._home:
            raise RuntimeError(
                "this would hold up every job of the event loop: await context.acheckpoint, awrite, acommit or aread"
            )
        super().checkpoint()

    async def acheckpoint(self) -> None:
        began: float | None = None
        while not self._leases.look(self._job, self._interrupted):
            began = began or time.monotonic()
            await asyncio.sleep(LOOK_EVERY)
        if began is not None:
            self._count(time.monotonic() - began)

    async def aread(self, query: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = await self._in_thread(partial(self.read, query, params))
        return found

    async def awrite(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> None:
        await self._in_thread(partial(self.write, effects))

    async def acommit(self, effects: Callable[[psycopg.Cursor[Any]], object]) -> None:
        await self._in_thread(partial(self.commit, effects))

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        """Run `work` in a thread. A task that is cancelled meanwhile learns first what became of it: nothing stops a transaction
        half-way, and whether it committed decides how the job ended."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, partial(copy_context().run, work))
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            future.exception()
            raise cancelled
        return future.result()
