"""This project through its public API: a host's plain INSERT, and a Worker on the general `jobs` table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from bench.queues.drivers.protocol import Driver, Work, main
from jobqueue import migrations
from jobqueue.kernel import Context, Job, Queue, Worker, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

# Found by trying 50 to 1,000: see bench/README.md.
CONCURRENCY = 500


def setup(dsn: str) -> None:
    migrations.migrate(dsn)


def enqueue(dsn: str, count: int, delay: float) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO jobs (kind, payload, run_after)"
            " SELECT 'nothing', jsonb_build_object('n', n), now() + make_interval(secs => %s)"
            " FROM generate_series(0, %s) AS n",
            [delay, count - 1],
        )


def trickle(dsn: str, count: int) -> Iterator[int]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(count):
            connection.execute(
                "INSERT INTO jobs (kind, payload) VALUES ('nothing', jsonb_build_object('n', %s::int))", [number]
            )
            yield number


def work(asked: Work) -> None:
    meter = asked.meter

    def nothing(job: Job, _: Context) -> None:
        meter.ran(job.columns["payload"]["n"])

    options = WorkerOptions(asked.dsn, concurrency=asked.concurrency or CONCURRENCY)
    worker = Worker(options, [Queue("jobs", nothing, columns=("payload",))])
    worker.start()
    asked.wait()
    worker.drain(10.0)


def history(dsn: str, count: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO jobs (kind, payload, status, started_at, completed_at, lease_token)"
            " SELECT 'nothing', jsonb_build_object('n', n), 'completed', now(), now(), gen_random_uuid()"
            " FROM generate_series(1, %s) AS n",
            [count],
        )


if __name__ == "__main__":
    main(
        Driver(
            setup,
            enqueue,
            trickle,
            work,
            "SELECT (EXISTS (SELECT FROM jobs WHERE status = 'pending' AND position IS NOT NULL)"
            " OR EXISTS (SELECT FROM jobs WHERE status = 'pending' AND position IS NULL AND crash_count > 0)"
            " OR EXISTS (SELECT FROM jobs WHERE status = 'processing'))::int",
            {"history": history},
        )
    )
