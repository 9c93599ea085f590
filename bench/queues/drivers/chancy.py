"""chancy: its asyncio executor with eager polling, and its default plugins."""

from __future__ import annotations

import asyncio
import datetime
import logging
from typing import TYPE_CHECKING, Any

import chancy  # type: ignore[import-not-found]
import psycopg

from bench.queues.drivers import chancy_handler
from bench.queues.drivers.protocol import Driver, Work, main, say

if TYPE_CHECKING:
    from collections.abc import Iterator

CONCURRENCY = 1_000
_BATCH = 1_000
_HANDLER = "bench.queues.drivers.chancy_handler.nothing"

# The default logger writes two lines for every job.
_LOG = logging.getLogger("chancy")
_LOG.setLevel(logging.WARNING)


def _app(dsn: str) -> Any:
    return chancy.Chancy(dsn, log=_LOG)


def _queue(concurrency: int) -> Any:
    return chancy.Queue(
        "default",
        concurrency=concurrency,
        executor=chancy.Chancy.Executor.Async,
        eager_polling=True,
        polling_interval=1,
    )


def _job(number: int, due: datetime.datetime) -> Any:
    return chancy.Job(func=_HANDLER, kwargs={"n": number}, scheduled_at=due)


def setup(dsn: str) -> None:
    async def migrate() -> None:
        async with _app(dsn) as app:
            await app.migrate()
            await app.declare(_queue(CONCURRENCY), upsert=True)

    asyncio.run(migrate())


def enqueue(dsn: str, count: int, delay: float) -> None:
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=delay)
    with _app(dsn) as app:
        for first in range(0, count, _BATCH):
            numbers = range(first, min(first + _BATCH, count))
            for _ in app.sync_push_many([_job(number, due) for number in numbers], batch_size=_BATCH):
                pass


def trickle(dsn: str, count: int) -> Iterator[int]:
    with _app(dsn) as app:
        for number in range(count):
            app.sync_push(_job(number, datetime.datetime.now(datetime.UTC)))
            yield number


def work(asked: Work) -> None:
    chancy_handler.meter = asked.meter
    asyncio.run(_work(asked))


async def _work(asked: Work) -> None:
    async with _app(asked.dsn) as app:
        if asked.concurrency:
            await app.declare(_queue(asked.concurrency), upsert=True)
        async with chancy.Worker(app) as worker:
            say("ready")
            await worker.wait_for_shutdown()


def history(dsn: str, count: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO chancy_jobs (id, queue, func, kwargs, state, attempts, max_attempts, taken_by, started_at,"
            " completed_at, claim_id)"
            " SELECT gen_random_uuid(), 'default', %s, jsonb_build_object('n', n), 'succeeded', 1, 1, 'worker', now(),"
            " now(), gen_random_uuid() FROM generate_series(1, %s) AS n",
            [_HANDLER, count],
        )


def _waiting(dsn: str, count: int, due: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO chancy_jobs (id, queue, func, kwargs, scheduled_at)"
            " SELECT gen_random_uuid(), 'default', %s, jsonb_build_object('n', n), now() + %s::interval"
            " FROM generate_series(1, %s) AS n",
            [_HANDLER, due, count],
        )


def _delayed(dsn: str, count: int) -> None:
    _waiting(dsn, count, "1 day")


def _pending(dsn: str, count: int) -> None:
    _waiting(dsn, count, "0 s")


if __name__ == "__main__":
    main(
        Driver(
            setup,
            enqueue,
            trickle,
            work,
            "SELECT EXISTS (SELECT FROM chancy_jobs WHERE queue = 'default'"
            " AND state IN ('pending', 'running', 'retrying') AND scheduled_at <= now())::int",
            {"history": history, "delayed": _delayed, "pending": _pending},
        )
    )
