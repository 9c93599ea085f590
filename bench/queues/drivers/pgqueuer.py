"""pgqueuer: asyncpg and uvloop, its default durability (all tables logged), large batches."""

from __future__ import annotations

import asyncio
import datetime
import signal
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-not-found]
import pgqueuer  # type: ignore[import-not-found]
import uvloop  # type: ignore[import-not-found]

from bench.queues.drivers.protocol import Driver, Work, main, say

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 1_000
_ENTRYPOINT = "nothing"
_ENQUEUE_BATCH = 5_000


async def _queries(dsn: str) -> Any:
    return pgqueuer.Queries.from_asyncpg_connection(await asyncpg.connect(dsn))


def setup(dsn: str) -> None:
    async def install() -> None:
        await (await _queries(dsn)).install()

    uvloop.run(install())


def enqueue(dsn: str, count: int, delay: float) -> None:
    async def send() -> None:
        queries = await _queries(dsn)
        due = datetime.timedelta(seconds=delay) if delay else None
        for first in range(0, count, _ENQUEUE_BATCH):
            numbers = range(first, min(first + _ENQUEUE_BATCH, count))
            await queries.enqueue(
                [_ENTRYPOINT] * len(numbers),
                [str(number).encode() for number in numbers],
                [0] * len(numbers),
                [due] * len(numbers),
            )

    uvloop.run(send())


def trickle(dsn: str, count: int) -> Iterator[int]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        queries = runner.run(_queries(dsn))
        for number in range(count):
            runner.run(queries.enqueue(_ENTRYPOINT, str(number).encode()))
            yield number


def work(asked: Work) -> None:
    uvloop.run(_work(asked, asked.concurrency or BATCH))


async def _work(asked: Work, batch: int) -> None:
    ran = asked.meter.ran
    app = pgqueuer.PgQueuer.from_asyncpg_connection(await asyncpg.connect(asked.dsn))

    async def nothing(job: Any) -> None:
        ran(int(job.payload))

    app.entrypoint(_ENTRYPOINT)(nothing)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, app.shutdown.set)
    say("ready")
    await app.run(batch_size=batch)


def history(dsn: str, count: int) -> None:
    """Finished jobs leave three lines each in the log table."""

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "INSERT INTO pgqueuer_log (created, job_id, status, priority, entrypoint)"
            " SELECT now(), n, status, 0, 'nothing' FROM generate_series(1, $1::bigint) AS n"
            " CROSS JOIN unnest(ARRAY['queued', 'picked', 'successful']::pgqueuer_status[]) AS status",
            count,
            timeout=1800,
        )

    uvloop.run(fill())


if __name__ == "__main__":
    main(
        Driver(
            setup,
            enqueue,
            trickle,
            work,
            "SELECT EXISTS (SELECT FROM pgqueuer WHERE execute_after <= now())::int",
            {"history": history},
        )
    )
