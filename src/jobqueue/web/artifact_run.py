"""`POST /delivery/admin/run-artifact-worker`: a scheduler has artifacts built, and waits while a bounded run does so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.exceptions import HTTPException
from starlette.routing import Route

from jobqueue.bounded_run import Unavailable
from jobqueue.observe.logging import get_logger
from jobqueue.web.call_gate import CallGate
from jobqueue.web.exchange import answer, header_of

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
# Calls wait for one another. Each holds a thread of this endpoint, so that other endpoints do not wait.
_THREADS: Final = 64


def artifact_route(run: Callable[[], Ran], secret: Secret | None, gate: CallGate | None = None) -> Route:
    """`POST /delivery/admin/run-artifact-worker`: calls `run` for whoever sends `secret` as X-CRON-SECRET.

    Without a secret, with a wrong one, and when none is configured, the answer is that of a path that does not exist,
    after the same work. A client's calls past 12 a minute are answered 429, right ones and wrong ones counted apart.
    """
    threads = CapacityLimiter(_THREADS)
    entrance = (gate or CallGate()).entrance(
        "run-artifact-worker", secret, "artifact_worker_cron_auth_failed", calls_per_minute=CALLS_PER_MINUTE
    )

    async def endpoint(request: Request) -> Response:
        if request.method != "POST":
            raise HTTPException(404)
        if not entrance.admits(request, header_of(request, "x-cron-secret")):
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
