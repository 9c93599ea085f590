"""procrastinate: jobs deferred in batches, async tasks, as many at once as it gains from."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING, Any

import procrastinate  # type: ignore[import-not-found]
import psycopg

from bench.queues.drivers.protocol import Driver, Work, main, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.queues.drivers.protocol import Meter

CONCURRENCY = 30
_BATCH = 1_000


def _app(dsn: str, connections: int = 1) -> Any:
    connector = procrastinate.PsycopgConnector(conninfo=dsn, min_size=connections, max_size=connections + 1)
    return procrastinate.App(connector=connector)


def _task(app: Any, meter: Meter | None = None) -> Any:
    async def nothing(n: int) -> None:
        assert meter is not None
        meter.ran(n)

    return app.task(name="nothing")(nothing)


def setup(dsn: str) -> None:
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=dsn))
    with app.open():
        app.schema_manager.apply_schema()


def enqueue(dsn: str, count: int, delay: float) -> None:
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=delay)
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=dsn))
    with app.open():
        task = _task(app).configure(schedule_at=due) if delay else _task(app)
        for first in range(0, count, _BATCH):
            task.batch_defer(*({"n": n} for n in range(first, min(first + _BATCH, count))))


def trickle(dsn: str, count: int) -> Iterator[int]:
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=dsn))
    with app.open():
        task = _task(app)
        for number in range(count):
            task.defer(n=number)
            yield number


def work(asked: Work) -> None:
    asyncio.run(_work(asked, asked.concurrency or CONCURRENCY))


async def _work(asked: Work, concurrency: int) -> None:
    app = _app(asked.dsn, concurrency)
    _task(app, asked.meter)
    async with app.open_async():
        say("ready")
        await app.run_worker_async(concurrency=concurrency, shutdown_graceful_timeout=5.0)


def history(dsn: str, count: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "WITH job AS (INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, attempts)"
            " SELECT 'default', 'nothing', jsonb_build_object('n', n), 'succeeded', 1"
            " FROM generate_series(1, %s) AS n RETURNING id)"
            " INSERT INTO procrastinate_events (job_id, type)"
            " SELECT job.id, event FROM job CROSS JOIN unnest(ARRAY['deferred', 'started', 'succeeded']"
            "::procrastinate_job_event_type[]) AS event",
            [count],
        )


def _waiting(dsn: str, count: int, due: str | None) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at)"
            " SELECT 'default', 'nothing', jsonb_build_object('n', n), now() + %s::interval"
            " FROM generate_series(1, %s) AS n",
            [due, count],
        )


def _delayed(dsn: str, count: int) -> None:
    _waiting(dsn, count, "1 day")


def _pending(dsn: str, count: int) -> None:
    _waiting(dsn, count, None)


if __name__ == "__main__":
    main(
        Driver(
            setup,
            enqueue,
            trickle,
            work,
            "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
            " AND (scheduled_at IS NULL OR scheduled_at <= now()))::int",
            {"history": history, "delayed": _delayed, "pending": _pending},
        )
    )
