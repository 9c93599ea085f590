"""The application: health, readiness, metrics and the routes that it is given, all behind the same limits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobqueue.web.exchange import HEADERS, answer
from jobqueue.web.request_limits import ErrorGuard, RequestLimits, RequestRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from jobqueue.observe.metrics import Metrics
    from jobqueue.web.health import Health, Report


REQUEST_LIMIT: Final = 256
"""Requests that are worked on at once, beside probes; more are answered 503."""

PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are answered whatever else the port is doing."""


def create_app(health: Health, metrics: Metrics, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Build the application: `GET /healthz`, `/readyz` and `/metrics`, then `routes`.

    Whatever the route, a body over 64 KiB is answered 413, and an endpoint that raises is logged and answered 500.
    """
    # These have threads of their own: slow endpoints, which use the common ones, cannot make the process look dead.
    threads = CapacityLimiter(4)

    async def healthz(_request: Request) -> Response:
        return await _answer(health.liveness, threads)

    async def readyz(_request: Request) -> Response:
        return await _answer(health.readiness, threads)

    async def page(request: Request) -> Response:
        render = partial(metrics.render, request.headers.get("accept", ""))
        body, content_type = await anyio.to_thread.run_sync(render, limiter=threads, abandon_on_cancel=True)
        return Response(body, headers={**HEADERS, "Content-Type": content_type})

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", page), *routes],
        middleware=[
            Middleware(ErrorGuard),
            Middleware(RequestRoom, most=REQUEST_LIMIT, probes=PROBES),
            Middleware(RequestLimits),
        ],
        exception_handlers={HTTPException: _refuse},
    )
    # A redirect would go to whatever Host header the client sent.
    app.router.redirect_slashes = False
    return app


async def _answer(ask: Callable[[], Report], threads: CapacityLimiter) -> Response:
    report = await anyio.to_thread.run_sync(ask, limiter=threads, abandon_on_cancel=True)
    checks = {name: "ok" if reason is None else reason for name, reason in report.checks.items()}
    status = "ok" if report.ok else "failing"
    return answer(200 if report.ok else 503, {"status": status, "checks": checks, **report.notes})


async def _refuse(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPException)
    return JSONResponse({"error": refusal.detail}, refusal.status_code, {**HEADERS, **(refusal.headers or {})})
