"""`POST /api/workers/webhookRetry`, `notificationExpiry` and `dataArchival`, for an external cron.

Each makes one run, bounded in time, of the work that the schedule of the same purpose does. A batch that is under way when the
answer is due goes on in the background: it is a transaction of its own, or recorded so that the next run finishes it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import anyio.to_thread
import psycopg
from anyio import CapacityLimiter
from starlette.routing import Route

from jobqueue.bounded_run import ANSWER_SECONDS, BoundedRun, Unavailable
from jobqueue.errors import JobError
from jobqueue.kernel.database.store import UnknownQueue
from jobqueue.observe.logging import get_logger
from jobqueue.retention.archive_tables import EVENTS, NOTIFICATIONS
from jobqueue.retention.notification_expiry import Expired
from jobqueue.web.call_gate import CallGate
from jobqueue.web.exchange import answer, bearer_of
from jobqueue.webhooks.webhook_retries import HandedOver

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from jobqueue.bounded_run import Proceed
    from jobqueue.maintenance import Maintenance
    from jobqueue.settings.secret import Secret

log = get_logger(__name__)

RUN_SECONDS: Final = 18.0
"""How long a run begins batches, in seconds."""

CALLS_PER_MINUTE: Final = 60
"""Calls of one client to one endpoint; more are answered 429."""

# Calls that may wait at once. Each holds a thread of these endpoints, so that other endpoints do not wait.
_THREADS: Final = 16


class _Progress(Protocol):
    """What a run has done so far; `more` says that there is more to do."""

    more: bool


Done = TypeVar("Done", bound=_Progress)


def bounded(
    run: Callable[[Proceed, Done], object],
    begin: Callable[[], Done],
    *,
    run_seconds: float = RUN_SECONDS,
    answer_seconds: float = ANSWER_SECONDS,
) -> BoundedRun[Done]:
    """The BoundedRun of one kind of maintenance. A run that is answered before its end says that there is more to do."""

    def work(proceed: Proceed, done: Done) -> None:
        try:
            run(proceed, done)
        except (psycopg.Error, JobError, UnknownQueue) as error:
            raise Unavailable(_reason(error)) from error

    def late(done: Done) -> None:
        done.more = True

    return BoundedRun(begin, work, run_seconds=run_seconds, answer_seconds=answer_seconds, late=late)


class MaintenanceRuns:
    """The runs behind the endpoints of one process."""

    def __init__(self, work: Maintenance) -> None:
        self.retries = bounded(work.retries.run, HandedOver)
        self.expiry = bounded(work.expiry.run, Expired)
        self.archival = bounded(work.archival.run, work.archival.begin)

    def stop(self, timeout: float = 3.0) -> None:
        """Begin no more batches, and give those under way `timeout` seconds to end."""
        until = time.monotonic() + timeout
        for run in (self.retries, self.expiry, self.archival):
            run.stop(max(0.0, until - time.monotonic()))


def maintenance_routes(runs: MaintenanceRuns, key: Secret | None, gate: CallGate | None = None) -> list[Route]:
    """The three routes. Without a key, with a wrong one, and when none is configured, the answer is the same 401."""
    threads = CapacityLimiter(_THREADS)
    gate = gate or CallGate()

    def route(name: str, run: Callable[[], dict[str, Any]]) -> Route:
        entrance = gate.entrance(name, key, "maintenance_call_auth_failed", calls_per_minute=CALLS_PER_MINUTE)

        async def endpoint(request: Request) -> Response:
            if not entrance.admits(request, bearer_of(request)):
                return answer(401, {"error": "Unauthorized"})
            # The body is read to its end first: one that is too large is refused before anything is done.
            await request.body()
            began = time.monotonic()
            try:
                done = await anyio.to_thread.run_sync(run, limiter=threads)
            except Unavailable as reason:
                log.warning(
                    "maintenance_call_failed", endpoint=name, reason=str(reason), error=str(reason.__cause__).strip()
                )
                return answer(503, {"error": str(reason)})
            log.info("maintenance_called", endpoint=name, duration_ms=round((time.monotonic() - began) * 1000))
            return answer(200, done)

        return Route(f"/api/workers/{name}", endpoint, methods=["POST"])

    def retried() -> dict[str, Any]:
        done = runs.retries.call()
        return {"retried": done.number, "message": done.message}

    def expired() -> dict[str, Any]:
        done = runs.expiry.call()
        return {"expired": done.number, "message": done.message}

    def archived() -> dict[str, Any]:
        done = runs.archival.call()
        return {
            "archived_events": done.rows[EVENTS],
            "archived_notifications": done.rows[NOTIFICATIONS],
            "retention_days": done.retention_days,
            "message": done.message,
        }

    return [route("webhookRetry", retried), route("notificationExpiry", expired), route("dataArchival", archived)]


def _reason(error: Exception) -> str:
    if isinstance(error, psycopg.OperationalError):
        return "The database does not answer, or not in time"
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return "The database takes no writes"
    if isinstance(error, psycopg.Error):
        return "The database refused a statement: see the log"
    return str(error)
