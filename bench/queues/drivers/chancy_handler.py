"""The handler of the chancy driver: chancy finds it by name, and so in a module that is not the program itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.queues.drivers.protocol import Meter

# Set by the worker's process before it starts.
meter: Meter | None = None


async def nothing(*, n: int) -> None:
    assert meter is not None
    meter.ran(n)
