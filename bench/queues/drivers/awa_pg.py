"""awa: the Python API over its Rust core, COPY to enqueue, large claims."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awa  # type: ignore[import-not-found]

from bench.queues.drivers.protocol import Driver, Work, main, say

if TYPE_CHECKING:
    from collections.abc import Iterator

CONCURRENCY = 500
_QUEUE = "default"
_BATCH = 10_000
_CONNECTIONS = 20


@dataclass
class Nothing:
    """The arguments of a job."""

    n: int


def setup(dsn: str) -> None:
    async def migrate() -> None:
        async with awa.AsyncClient(dsn) as client:
            await client.migrate()
            # The engine for new installations; the one that migrate() leaves active is for older ones.
            await client.install_queue_storage()

    asyncio.run(migrate())


def enqueue(dsn: str, count: int, delay: float) -> None:
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=delay) if delay else None
    with awa.Client(dsn) as client:
        for first in range(0, count, _BATCH):
            jobs = [Nothing(n) for n in range(first, min(first + _BATCH, count))]
            client.enqueue_many_copy(jobs, queue=_QUEUE, run_at=due)


def trickle(dsn: str, count: int) -> Iterator[int]:
    with awa.Client(dsn) as client:
        for number in range(count):
            client.insert(Nothing(number), queue=_QUEUE)
            yield number


def work(asked: Work) -> None:
    asyncio.run(_work(asked, asked.concurrency or CONCURRENCY))


async def _work(asked: Work, concurrency: int) -> None:
    ran = asked.meter.ran
    client = awa.AsyncClient(asked.dsn, max_connections=_CONNECTIONS)

    async def nothing(job: Any) -> None:
        ran(job.args.n)

    client.task(Nothing, queue=_QUEUE)(nothing)
    await client.start([{"name": _QUEUE, "max_workers": concurrency}])
    say("ready")
    await asyncio.to_thread(asked.stopped.wait)
    await client.shutdown()
    await client.close()


# What is claimable lies between two sequences; what is claimed and not closed is the difference of two small rings. The
# view awa.jobs says the same, but takes half a second to do so.
_REMAINING = (
    "SELECT (EXISTS (SELECT FROM awa.queue_claim_heads AS claim"
    " JOIN awa.queue_enqueue_heads AS enqueue USING (queue, priority, enqueue_shard)"
    " WHERE awa.sequence_next_value(claim.seq_name) < awa.sequence_next_value(enqueue.seq_name))"
    " OR EXISTS (SELECT FROM awa.deferred_jobs WHERE run_at <= now() + interval '1 minute')"
    " OR EXISTS (SELECT FROM awa.leases)"
    " OR (SELECT count(*) FROM awa.lease_claims)"
    " + (SELECT coalesce(sum(claimed_count), 0) FROM awa.lease_claim_batches)"
    " > (SELECT count(*) FROM awa.lease_claim_closures)"
    " + (SELECT coalesce(sum(closed_count), 0) FROM awa.lease_claim_closure_batches))::int"
)

if __name__ == "__main__":
    main(Driver(setup, enqueue, trickle, work, _REMAINING))
