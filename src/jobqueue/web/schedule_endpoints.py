"""`POST /cron/{schedule}`: an external cron has a schedule run now. `POST /webhook/settings-changed`: the backend says that its
settings for schedules have changed.

Neither acts by a body: the path names the schedule, and the settings themselves come from the backend.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio.to_thread
import psycopg
from anyio import CapacityLimiter
from starlette.routing import Route
from tenacity import Retrying, retry_if_result, stop_after_attempt

from jobqueue.database_session import connect
from jobqueue.observe.logging import get_logger
from jobqueue.observe.printable_text import printable
from jobqueue.schedule.schedule_rules import previous
from jobqueue.schedule.schedules_file import NAME
from jobqueue.schedule.schedules_table import Schedules
from jobqueue.schedule.settings_feed import ask_for_settings
from jobqueue.web.call_gate import CallGate
from jobqueue.web.exchange import answer, bearer_of, client_of, header_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from jobqueue.kinds import Kinds
    from jobqueue.settings import Settings

log = get_logger(__name__)

# Connections to the database that these endpoints may hold at once, seconds that a statement may take, and those for which the
# server may say nothing.
_CALLS: Final = 2
_SECONDS: Final = 5
_SILENCE: Final = 7.0

CALLS_PER_MINUTE: Final = 120
"""Calls of one client to one of these endpoints; more are answered 429."""

# Characters of what the backend says of who changed its settings.
_NAME_CHARACTERS: Final = 200

# A definition may change between reading it and asking for a run, but hardly again and again.
_ATTEMPTS: Final = 3


_LIMIT: Final = b"SELECT set_config('statement_timeout', %(limit)s, true), set_config('lock_timeout', %(limit)s, true)"


class Said(NamedTuple):
    """What an endpoint answers: the status, and the JSON."""

    status: int
    document: dict[str, Any]


_CHANGED: Final = Said(503, {"error": "The schedule is being changed"})


class _Connection:
    """The connection of one call, with limits on each statement, as `Schedules` needs it."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def fetch(self, query: bytes, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._connection.transaction():
            self._connection.execute(_LIMIT, {"limit": f"{_SECONDS}s"})
            cursor = self._connection.execute(query, params)
            return cursor.fetchall() if cursor.description else []


def schedule_routes(settings: Settings, kinds: Kinds, gate: CallGate | None = None) -> list[Route]:
    """The two routes. `kinds` tells which schedules can run in this deployment."""
    endpoints = _Endpoints(settings, kinds, gate or CallGate())
    return [
        Route("/cron/{schedule}", endpoints.cron, methods=["POST"]),
        Route("/webhook/settings-changed", endpoints.settings_changed, methods=["POST"]),
    ]


class _Endpoints:
    def __init__(self, settings: Settings, kinds: Kinds, gate: CallGate) -> None:
        self._cron = gate.entrance(
            "cron", settings.cron_job_api_key, "schedule_call_auth_failed", calls_per_minute=CALLS_PER_MINUTE
        )
        self._configured = settings.worker_webhook_secret is not None
        # The backend calls, from wherever it runs.
        self._changed = gate.entrance(
            "settings-changed",
            settings.worker_webhook_secret,
            "settings_webhook_auth_failed",
            calls_per_minute=CALLS_PER_MINUTE,
            for_crons=False,
        )
        self._conninfo = settings.conninfo
        self._kinds = kinds
        self._threads = CapacityLimiter(_CALLS)

    async def cron(self, request: Request) -> Response:
        if not self._cron.admits(request, bearer_of(request)):
            return answer(401, {"error": "Unauthorized"})
        # The body is read to its end first: one that is too large is refused before anything is done.
        await request.body()
        name = request.path_params["schedule"]
        if not NAME.fullmatch(name):
            return answer(404, {"error": "Not found"})
        said = await self._in_thread(lambda schedules: self._call(schedules, name))
        outcome = said.document.get("status", said.document.get("error"))
        log.info("schedule_called", schedule=name, status=said.status, outcome=outcome)
        return answer(*said)

    async def settings_changed(self, request: Request) -> Response:
        if not self._configured:
            return answer(500, {"error": "Server misconfigured"})
        if not self._changed.admits(request, header_of(request, "x-webhook-secret")):
            return answer(401, {"error": "Unauthorized"})
        log.info("settings_webhook_accepted", client=client_of(request), changed_by=changed_by(await request.body()))

        def ask(schedules: Schedules) -> Said:
            ask_for_settings(schedules.database)
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            return Said(200, {"success": True, "message": "Schedulers restarted", "timestamp": now})

        return answer(*await self._in_thread(ask))

    def _call(self, schedules: Schedules, name: str) -> Said:
        attempts = Retrying(
            retry=retry_if_result(lambda said: said is _CHANGED),
            stop=stop_after_attempt(_ATTEMPTS),
            retry_error_callback=lambda _state: _CHANGED,
        )
        return attempts(self._call_once, schedules, name)

    def _call_once(self, schedules: Schedules, name: str) -> Said:
        """Ask for a run now. _CHANGED when the definition is no longer the one that was read."""
        found = schedules.load([name])
        if not found or found[0].removed_at is not None:
            return Said(404, {"error": "Not found"})
        schedule = found[0]
        if not self._kinds.serves(schedule.kind, schedule.payload):
            return Said(503, {"error": "No handler for this schedule here"})
        try:
            rule = schedule.rule(schedules.settings())
        except ValueError as error:
            log.error("schedule_malformed", schedule=name, error=error)
            return Said(503, {"error": "The schedule is malformed"})
        if rule is None:
            # The backend says at what pace it runs, and has said nothing, or that it is off.
            return Said(200, {"status": "off"})
        now = schedules.look().now
        at = previous(rule, now) or now.replace(microsecond=0)
        outcome = schedules.call(schedule, at, rule.next(at) or at + timedelta(days=1), "http")
        match outcome:
            case "changed":
                return _CHANGED
            case "paused":
                return Said(200, {"status": "paused"})
            case _:
                # Started by this call or an earlier one for the same tick, or still running: one run, however often it is asked for.
                return Said(200, {"status": "started"})

    async def _in_thread(self, work: Callable[[Schedules], Said]) -> Said:
        def run() -> Said:
            try:
                with connect(self._conninfo, "http", connect_timeout=_SECONDS, silence=_SILENCE) as connection:
                    return work(Schedules(_Connection(connection)))
            except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
                log.warning("http_database_away", error=str(error).strip())
                read_only = isinstance(error, psycopg.errors.ReadOnlySqlTransaction)
                return Said(503, {"error": f"The database {'takes no writes' if read_only else 'does not answer'}"})

        return await anyio.to_thread.run_sync(run, limiter=self._threads)


def changed_by(body: bytes) -> str | None:
    """Who changed the settings, as the backend says: text for the log, on which nothing rests."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    said = document.get("changedBy") if isinstance(document, dict) else None
    return printable(said[:_NAME_CHARACTERS]) if isinstance(said, str) else None
