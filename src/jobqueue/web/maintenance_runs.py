"""`POST /api/workers/webhookRetry`, `notificationExpiry` and `dataArchival`, for an external cron.

Each does one run, bounded in time, of what the schedule of the same purpose does. A batch that is under way when the answer is due
goes on in the background: it is a transaction of its own, or recorded so that the next run finishes it.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import anyio.to_thread
import psycopg
from anyio import CapacityLimiter
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobqueue.errors import JobError
from jobqueue.kernel.database.store import UnknownQueue
from jobqueue.observe.logging import get_logger
from jobqueue.retention.archive_tables import EVENTS, NOTIFICATIONS
from jobqueue.retention.notification_expiry import Expired
from jobqueue.settings.secret import Secret
from jobqueue.webhooks.webhook_retries import HandedOver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from jobqueue.maintenance import Housekeeping

log = get_logger(__name__)

RUN_SECONDS: Final = 18.0
"""How long a run begins batches."""

ANSWER_SECONDS: Final = 24.0
"""When a run is answered at the latest: a second below what callers were promised."""

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# Calls that wait; each holds a thread of its own, so that the endpoints of others are not kept waiting.
_THREADS: Final = 16


class _Progress(Protocol):
    """What a run has done so far; `more` when it was not all there was."""

    more: bool


Done = TypeVar("Done", bound=_Progress)


class Unavailable(Exception):
    """No run can be made now; the message says why, to whoever has the key."""


class _Runnable(Protocol[Done]):
    def __call__(self, proceed: Callable[[], bool], done: Done, /) -> Done: ...


class BoundedRun(Generic[Done]):
    """Runs of one kind, one at a time in this process: whoever asks meanwhile waits, and is answered in time all the same."""

    def __init__(
        self,
        run: _Runnable[Done],
        begin: Callable[[], Done],
        *,
        run_seconds: float = RUN_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._run = run
        self._begin = begin
        self._run_seconds = run_seconds
        self._answer_seconds = answer_seconds
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._stopping = False

    def call(self) -> Done:
        """Make a run; returns what it had done when it ended or was to be answered. Raises Unavailable."""
        began = time.monotonic()
        done = self._begin()
        if not self._turn.acquire(timeout=self._run_seconds):
            # An earlier call's run is still under way.
            done.more = True
            return done
        ended, failed = threading.Event(), list[Exception]()

        def proceed() -> bool:
            return not self._stopping and time.monotonic() < began + self._run_seconds

        def work() -> None:
            try:
                self._run(proceed, done)
            except (psycopg.Error, JobError, UnknownQueue) as error:
                failed.append(error)
            finally:
                self._turn.release()
                ended.set()

        try:
            if self._stopping:
                raise Unavailable("the process is stopping")
            self._ended = ended
            # A daemon thread: whatever a run is doing may be cut off at any moment, and the process's end does not wait for it.
            threading.Thread(target=work, name="bounded-run", daemon=True).start()
        except BaseException:
            self._turn.release()
            raise
        if not ended.wait(max(0.0, began + self._answer_seconds - time.monotonic())):
            done.more = True
        if failed:
            raise Unavailable(_reason(failed[0])) from failed[0]
        return done

    def stop(self, timeout: float) -> bool:
        """Begin no more batches; returns whether the one under way ended within `timeout` seconds."""
        self._stopping = True
        return self._ended.wait(timeout)


class EventRuns:
    """The runs behind the endpoints of one process."""

    def __init__(self, work: Housekeeping) -> None:
        self.retries = BoundedRun(work.retries.run, HandedOver)
        self.expiry = BoundedRun(work.expiry.run, Expired)
        self.archival = BoundedRun(work.archival.run, work.archival.begin)

    def stop(self, timeout: float = 3.0) -> None:
        """Begin no more batches, and give those under way `timeout` seconds to end."""
        until = time.monotonic() + timeout
        for run in (self.retries, self.expiry, self.archival):
            run.stop(max(0.0, until - time.monotonic()))


def event_routes(runs: EventRuns, key: Secret | None) -> list[Route]:
    """The three routes. Without a key, with a wrong one, and when none is configured, the answer is 401, alike in all ways."""
    # Nobody knows this one: an unset key is compared with like any other.
    expected = key or Secret(secrets.token_urlsafe(32))
    threads = CapacityLimiter(_THREADS)

    def route(name: str, run: Callable[[], dict[str, Any]]) -> Route:
        async def endpoint(request: Request) -> Response:
            if not expected.matches(_bearer(request.headers.getlist("authorization"))):
                client = request.client.host if request.client is not None else "unknown"
                log.warning("maintenance_call_auth_failed", endpoint=name, client=client, configured=key is not None)
                return JSONResponse({"error": "Unauthorized"}, 401, _HEADERS)
            # Read to its end, so that one that is too large is refused before anything is done.
            await request.body()
            began = time.monotonic()
            try:
                answer = await anyio.to_thread.run_sync(run, limiter=threads)
            except Unavailable as reason:
                log.warning(
                    "maintenance_call_failed", endpoint=name, reason=str(reason), error=str(reason.__cause__).strip()
                )
                return JSONResponse({"error": str(reason)}, 503, _HEADERS)
            log.info("maintenance_called", endpoint=name, duration_ms=round((time.monotonic() - began) * 1000))
            return JSONResponse(answer, headers=_HEADERS)

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


def _bearer(values: Sequence[str]) -> bytes:
    """The key that a caller sent; nothing when there is none, or more than one header to choose from."""
    scheme, _, key = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def _reason(error: Exception) -> str:
    if isinstance(error, psycopg.OperationalError):
        return "The database does not answer, or not in time"
    if isinstance(error, psycopg.Error):
        return "The database refused a statement: see the log"
    return str(error)
