"""Hands retries of webhook deliveries that are past their time over to the workers at once.

Workers come to retries by themselves; a delivery is tried again without any of this. Handing over gives those that are due
their place in the queue and wakes whoever serves it. The workers make the attempts, under the limits that hold for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jobqueue.admin.inspector import WorkerRow
from jobqueue.kernel.database.link import Link, watched
from jobqueue.kernel.database.statements import statement
from jobqueue.kernel.database.store import Store, describe
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

QUEUE: Final = "webhook_deliveries"

# As many as one call to Store.promote gives a place.
_BATCH: Final = 1000

# Seconds after which a statement without an answer is given up.
_ANSWER_SECONDS: Final = 15.0

# Retries are counted among the first 10,000 of the queue. Plan: the claim index, read in order until the limit.
_COUNT_DUE: Final = b"""
SELECT count(*) FILTER (WHERE due.retry_count > 0) FROM (
    SELECT t.retry_count FROM public.webhook_deliveries AS t
    WHERE (t.status = 'pending') IS TRUE AND t.position IS NOT NULL
    ORDER BY t.priority DESC, t.position LIMIT 10000) AS due"""

_WAKE: Final = b"SELECT pg_notify('jobqueue', 'due ' || %(queue)s)"


@dataclass(slots=True)
class HandedOver:
    """What a run did: `number` retries are due and with the workers.

    `served` says whether a worker of the queue is alive, `more` whether time was up before all that is due had its place.
    """

    number: int = 0
    served: bool = True
    more: bool = False

    @property
    def message(self) -> str:
        """The same as a sentence."""
        said = f"Handed {self.number} due retries to the workers"
        if not self.served:
            said += f", but no worker serves {QUEUE} now"
        return said + ("; more are due" if self.more else "")


class WebhookRetries:
    """Hands retries over. Safe to run from several threads and processes at once."""

    def __init__(self, conninfo: str, *, pooled: bool = False) -> None:
        self._conninfo = conninfo
        self._pooled = pooled

    def run(self, proceed: Callable[[], bool], done: HandedOver | None = None) -> HandedOver:
        """Hand over what is due until nothing is left or `proceed()`, asked after each batch, says no; returns `done`.

        Raises psycopg.Error, and UnknownQueue where the database is not migrated.
        """
        done = HandedOver() if done is None else done
        with watched(Link(self._conninfo, "webhook-retry", prepare=not self._pooled, timeout=_ANSWER_SECONDS)) as link:
            store = Store(describe(link, QUEUE))
            while not done.more and store.promote(link) >= _BATCH:
                done.more = not proceed()
            done.number = int(link.fetch(_COUNT_DUE)[0][0])
            if done.number:
                link.fetch(_WAKE, {"queue": QUEUE})
            workers = [WorkerRow(*row) for row in link.fetch(statement("list_workers"))]
            done.served = any(QUEUE in worker.queues and worker.alive for worker in workers)
        log.info("webhook_retries_handed_over", retries=done.number, served=done.served, more=done.more)
        return done
