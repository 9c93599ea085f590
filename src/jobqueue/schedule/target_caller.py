"""Calls to targets: a POST for each tick, and the backend's settings.

A call carries an idempotency key that is the same for every attempt at one tick. A tick's job is made once; the call itself is
made at least once, because its answer may be lost on the way. The key tells the target that it is the same call.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from urllib3.exceptions import HTTPError

from jobqueue.errors import JobError, Permanent, Retry, Snooze
from jobqueue.kernel import Backoff
from jobqueue.net.http_pool import describe, host_of, pool, replacing_stale, retry_after, while_waiting
from jobqueue.net.peer_clock import PeerClock
from jobqueue.net.target_url import BadPath, join_path
from jobqueue.observe.logging import get_logger
from jobqueue.schedule import target_breaker
from jobqueue.schedule.backend_settings import BackendSettings, read_settings
from jobqueue.schedule.targets import BACKEND, Target
from jobqueue.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg
    from urllib3 import BaseHTTPResponse

    from jobqueue.kernel import Context, Job
    from jobqueue.net.target_url import TargetUrl

log = get_logger(__name__)

POST_SECONDS: Final = 30.0
SETTINGS_SECONDS: Final = 5.0

_BACKOFF: Final = Backoff(first=4.0, longest=600.0)
_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
# Bytes of an answer that are read. A longer one is cut off, and its connection is not used again.
_MOST_BYTES: Final = 64 * 1024
_SETTINGS_PATH: Final = "/api/settings"

_NOTE_STATUS: Final = """
UPDATE jobqueue.schedule_ticks SET http_status = %(status)s
WHERE schedule = %(schedule)s AND tick = %(tick)s AND slot = %(slot)s"""

_SECONDS_LEFT: Final = "SELECT extract(epoch FROM %(until)s::timestamptz - clock_timestamp())::float8"


class _TooSlow(Exception):
    """The whole call took longer than it may."""


class Caller:
    """Posts to `targets`. Safe to use from many threads."""

    def __init__(
        self, targets: Mapping[str, Target], *, connections: int = 4, post_seconds: float = POST_SECONDS
    ) -> None:
        self._targets = targets
        self._post_seconds = post_seconds
        self._pool = pool(connections, read_seconds=post_seconds)

    def serves(self, payload: Mapping[str, Any]) -> bool:
        """Whether this process knows the target that a schedule posts to."""
        return payload.get("target", BACKEND) in self._targets

    def post(self, job: Job, context: Context) -> None:
        """The handler of the kind `post`. The payload holds `target`, `path` and maybe `json`.

        Raises Retry and Permanent for what the target answers, Snooze while its breaker is open, and what the context raises.
        Retries and waits do not outlive the tick: no attempt begins after the next tick is due.
        """
        payload = job.columns["payload"]
        name = payload.get("target", BACKEND)
        target = self._targets.get(name)
        if target is None:
            raise Retry(f"the target {name!r} is not known to this process: see its SCHEDULES_FILE and its variables")
        # A bad path says nothing about the target: the breaker is neither asked nor told.
        url = _address(target, payload.get("path"))
        seconds = target_breaker.wait(context, name)
        if seconds > 0:
            self._within_tick(context, job, seconds, f"{_peer(target)} has failed again and again")
            raise Snooze(f"{_peer(target)} has failed again and again and is left alone for {seconds:.0f} s", seconds)
        with context.stage("post"):
            status, error = self._attempt(target, url, payload, job, context)

        def note(cursor: psycopg.Cursor[Any]) -> None:
            columns = job.columns
            cursor.execute(
                _NOTE_STATUS,
                {
                    "status": status,
                    "schedule": columns["schedule"],
                    "tick": columns["tick_at"],
                    "slot": columns["tick_slot"],
                },
            )
            # A target that refuses has answered: the call is wrong then, not the target.
            if not isinstance(error, Retry):
                target_breaker.worked(cursor, name)
            elif target_breaker.failed(cursor, name):
                log.warning("target_breaker_opened", target=name, error=error)

        if error is None:
            context.commit(note)
            return
        context.write(note)
        if isinstance(error, Retry):
            after = _BACKOFF.delay(job.retry_count) if error.after is None else error.after
            self._within_tick(context, job, after, str(error))
            raise Retry(str(error), after)
        raise error

    def settings(self) -> BackendSettings:
        """Ask the backend for its settings. Raises Retry or Permanent that say what went wrong."""
        target = self._targets[BACKEND]
        url = _address(target, _SETTINGS_PATH)
        response, body = self._call("GET", target, url, None, {}, SETTINGS_SECONDS, lambda: None)
        if response.status != HTTPStatus.OK:
            raise self._refusal(target, response)
        try:
            return read_settings(json.loads(body))
        except ValueError as error:
            # The error about what is no JSON would quote the answer: its words are left out.
            reason = "is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
            raise Retry(f"{_peer(target)} answered something that {reason} instead of its settings") from None

    @property
    def has_backend(self) -> bool:
        """Whether there is a backend to ask for settings."""
        return BACKEND in self._targets

    def close(self) -> None:
        """Close connections that are kept open."""
        self._pool.clear()

    def _attempt(
        self, target: Target, url: TargetUrl, payload: Mapping[str, Any], job: Job, context: Context
    ) -> tuple[int | None, JobError | None]:
        """Make one call; returns the status that the target answered, if any, and what is wrong, if anything."""
        headers = _tick_headers(job)
        body = json.dumps(payload["json"]).encode() if "json" in payload else None
        context.checkpoint()
        try:
            response, _ = self._call("POST", target, url, body, headers, self._post_seconds, context.checkpoint)
        except JobError as error:
            if isinstance(error, Retry | Permanent):
                return None, error
            raise
        if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            return response.status, None
        return response.status, self._refusal(target, response)

    def _call(
        self, method: str, target: Target, url: TargetUrl, body: bytes | None, headers: Mapping[str, str], seconds: float,
        checkpoint: Callable[[], None],
    ) -> tuple[BaseHTTPResponse, bytes]:  # fmt: skip
        """Make a call; returns the answer, and the first 64 KiB of its body. Raises Retry when none comes within `seconds`.

        What `checkpoint` raises ends the call; the time that it takes is not the target's.
        """
        clock = PeerClock(checkpoint)
        deadline = clock.now() + seconds

        def waiting() -> None:
            clock.checkpoint()
            if clock.now() > deadline:
                raise _TooSlow

        sent = {"User-Agent": f"jobqueue/{__version__}", "Accept": "application/json", **headers}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if target.header is not None:
            sent[target.header[0]] = target.header[1]
        try:
            with while_waiting(waiting):
                # A redirect may lead to another server, which would get the secret too.
                response = replacing_stale(
                    lambda: self._pool.request(
                        method, url, body=body, headers=sent, redirect=False, preload_content=False
                    )
                )
                with response:
                    answer = b""
                    # A reader of an answer that comes in drips never waits: the time is checked between the drips too.
                    while len(answer) < _MOST_BYTES and (piece := response.read1(_MOST_BYTES - len(answer))):
                        waiting()
                        answer += piece
                    return response, answer
        except _TooSlow:
            raise Retry(f"{_peer(target)} did not answer within {seconds:g} s") from None
        except HTTPError as error:
            raise Retry(describe(error, _peer(target))) from error

    @staticmethod
    def _refusal(target: Target, response: BaseHTTPResponse) -> JobError:
        status, peer = response.status, _peer(target)
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            after = retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
            return Retry(f"{peer} answered {status}", after)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            check = f": check {target.secret_variable}" if target.secret_variable else ""
            return Permanent(f"{peer} refused our credentials ({status}){check}")
        if status == HTTPStatus.NOT_FOUND:
            return Permanent(f"{peer} does not know this path (404)")
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return Permanent(f"{peer} answered {status}: redirects are not followed; check its base URL")
        return Permanent(f"{peer} answered {status}: it does not accept this call")

    @staticmethod
    def _within_tick(context: Context, job: Job, after: float, reason: str) -> None:
        """Raise Permanent unless there is still time for another attempt before the next tick."""
        until: datetime | None = job.columns["tick_until"]
        if until is None:
            return
        left = context.read(_SECONDS_LEFT, {"until": until})[0][0]
        if after >= left:
            raise Permanent(f"{reason}; the next tick comes before another attempt")


def _tick_headers(job: Job) -> dict[str, str]:
    """What tells the target that it is the same call. A job's row is its host's: whatever its columns hold becomes one header."""
    headers = {"Idempotency-Key": f"job:{job.id}", "X-Attempt": str(job.attempt)}
    schedule, tick = job.columns["schedule"], job.columns["tick_at"]
    if schedule is None or not isinstance(tick, datetime):
        return headers
    stamp = tick.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    key = f"schedule:{schedule}:{job.columns['tick_slot']}:{stamp}"
    # Line breaks would begin another header, and others than ASCII cannot stand in one.
    key = "".join(each if " " <= each <= "~" else quote(each) for each in key)
    return {**headers, "Idempotency-Key": key, "X-Schedule-Tick": stamp}


def _address(target: Target, path: object) -> TargetUrl:
    """Where to call the target. Raises Permanent, which does not repeat the path, where it would lead elsewhere."""
    try:
        return join_path(target.base_url, path)
    except BadPath as error:
        raise Permanent(f"{_peer(target)} was not called: the path in the payload {error}") from None


def _peer(target: Target) -> str:
    who = "the backend" if target.name == BACKEND else f"the target {target.name}"
    return f"{who} at {host_of(target.base_url)}"
