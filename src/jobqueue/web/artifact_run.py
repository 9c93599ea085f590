"""`POST /delivery/admin/run-artifact-worker`: a scheduler has artifacts built, and waits while a bounded run does so."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.exceptions import HTTPException
from starlette.routing import Route

from jobqueue.bounded_run import Unavailable
from jobqueue.observe.logging import get_logger
from jobqueue.web.exchange import answer, client_of, expected, header_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from jobqueue.artifacts.cron_run import Ran
    from jobqueue.settings.secret import Secret

log = get_logger(__name__)

ARTIFACT_PATH: Final = "/delivery/admin/run-artifact-worker"
CALLS_PER_MINUTE: Final = 12

_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_MOST_CLIENTS: Final = 10_000
# Calls wait for one another. Each holds a thread of this endpoint, so that other endpoints do not wait.
_THREADS: Final = 64


class RateLimit:
    """Admits at most `calls` in any `seconds` for each client. It remembers a limited number of clients."""

    def __init__(
        self, calls: int = CALLS_PER_MINUTE, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._calls = calls
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._admitted: dict[str, deque[float]] = {}

    def wait_for(self, client: str) -> float:
        """Count a call and return 0; or, where the client may not call now, return the seconds until it may."""
        client = _network(client)
        with self._lock:
            now = self._clock()
            # The client goes last: the dictionary is in the order of last calls.
            times = self._admitted.pop(client, deque())
            while times and times[0] <= now - self._seconds:
                times.popleft()
            self._admitted[client] = times
            while len(self._admitted) > _MOST_CLIENTS:
                del self._admitted[next(iter(self._admitted))]
            if len(times) >= self._calls:
                return times[0] + self._seconds - now
            times.append(now)
            return 0.0


def artifact_route(run: Callable[[], Ran], secret: Secret | None, limit: RateLimit | None = None) -> Route:
    """`POST /delivery/admin/run-artifact-worker`: calls `run` for whoever sends `secret` as X-CRON-SECRET.

    Without a secret, with a wrong one, and when none is configured, the answer is that of a path that does not exist,
    after the same work. A client's calls past 12 a minute are answered 429, whatever it sends.
    """
    limit = limit or RateLimit()
    threads = CapacityLimiter(_THREADS)
    wanted = expected(secret)

    async def endpoint(request: Request) -> Response:
        if request.method != "POST":
            raise HTTPException(404)
        client = client_of(request)
        if wait := limit.wait_for(client):
            raise HTTPException(429, headers={"Retry-After": str(math.ceil(wait))})
        if not wanted.matches(header_of(request, "x-cron-secret")):
            log.warning("artifact_worker_cron_auth_failed", client=client, configured=secret is not None)
            raise HTTPException(404)
        began = time.monotonic()
        try:
            ran = await anyio.to_thread.run_sync(run, limiter=threads)
        except Unavailable as reason:
            raise HTTPException(503, str(reason)) from reason
        log.info(
            "artifact_worker_cron_success",
            processed=ran.processed,
            recovered=ran.recovered,
            duration_ms=round((time.monotonic() - began) * 1000),
        )
        return answer(200, {"success": True, "processed": ran.processed, "recovered": ran.recovered})

    return Route(ARTIFACT_PATH, endpoint, methods=_METHODS)


def _network(client: str) -> str:
    """What counts as one client: an address, or in version 6 its /64, which every subscriber has at least."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return address.exploded[:19]
    return str(address)
