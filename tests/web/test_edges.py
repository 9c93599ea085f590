"""What strangers do to the port, and what they cannot take from others by it."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.support.waiting import eventually
from tests.web.test_http_server import Slow

from jobqueue.artifacts.cron_run import Ran
from jobqueue.kinds import Kinds
from jobqueue.maintenance import Maintenance
from jobqueue.settings import load_settings
from jobqueue.settings.secret import Secret
from jobqueue.web import app as app_module
from jobqueue.web import http_server as module
from jobqueue.web.app import create_app
from jobqueue.web.artifact_run import ARTIFACT_PATH, artifact_route
from jobqueue.web.call_gate import CallGate
from jobqueue.web.maintenance_runs import MaintenanceRuns, maintenance_routes
from jobqueue.web.openapi import document, openapi_route
from jobqueue.web.schedule_endpoints import changed_by, schedule_routes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from tests.web.helpers import Answer, Site

SECRET = "the-cron-secret-of-this-test"


def artifacts(gate: CallGate) -> Route:
    return artifact_route(lambda: Ran(processed=0, recovered=0), Secret(SECRET), gate)


def call(site: Site, secret: str = SECRET, **headers: str) -> Answer:
    return site.ask("POST", ARTIFACT_PATH, X_CRON_SECRET=secret, **headers)


def failures(site: Site) -> float | None:
    return site.metrics.registry.get_sample_value(
        "jobqueue_http_auth_failures_total", {"endpoint": "run-artifact-worker"}
    )


def test_wrong_secrets_spend_nothing_of_what_the_right_one_may_use(site: Site) -> None:
    site.serve(artifacts(CallGate(site.metrics)))

    assert [call(site, "wrong").status for _ in range(14)] == [404] * 12 + [429] * 2
    assert [call(site).status for _ in range(13)] == [200] * 12 + [429]
    assert failures(site) == 14


def test_behind_a_trusted_proxy_clients_are_told_apart(site: Site) -> None:
    site.serve(artifacts(CallGate()), trusted_proxies="127.0.0.0/8")

    assert [call(site, X_Forwarded_For="192.0.2.1").status for _ in range(13)] == [200] * 12 + [429]
    assert call(site, X_Forwarded_For="192.0.2.2").status == 200
    # What a client itself wrote there comes before what its proxy added.
    assert call(site, X_Forwarded_For="192.0.2.3, 192.0.2.1").status == 429


def test_nobody_else_is_believed(site: Site) -> None:
    site.serve(artifacts(CallGate()), trusted_proxies="192.0.2.0/24")

    assert [call(site, X_Forwarded_For=f"192.0.2.{n}").status for n in range(13)] == [200] * 12 + [429]


@pytest.mark.parametrize(("allowed", "status"), [("127.0.0.0/8", 200), ("192.0.2.0/24,2001:db8::/32", 404)])
def test_only_listed_addresses_may_call(site: Site, allowed: str, status: int) -> None:
    networks = load_settings(
        {"DATABASE_URL": "postgresql://localhost", "CRON_ALLOWED_CIDRS": allowed}
    ).cron_allowed_cidrs
    site.serve(artifacts(CallGate(site.metrics, networks)))

    assert call(site).status == status
    assert failures(site) == (0 if status == 200 else 1)


def test_half_open_connections_keep_no_probe_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTION_LIMIT", 20)
    server = site.serve()
    with ExitStack() as stack:
        for _ in range(60):
            half = stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)))
            half.sendall(b"GET /healthz HTTP/1.1\r\nHost:")

        assert [site.ask("GET", "/healthz").status for _ in range(3)] == [200] * 3


def test_busy_endpoints_keep_no_probe_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "REQUEST_LIMIT", 1)
    slow = Slow()
    server = site.serve(slow.route())
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        assert slow.begun.wait(5)

        assert site.ask("GET", "/slow").status == 503
        assert [site.ask("GET", path).status for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
        slow.let.set()


def test_beyond_the_reserve_connections_are_closed_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTION_LIMIT", 1)
    monkeypatch.setattr(module, "RESERVE", 1)
    slow = Slow()
    server = site.serve(slow.route())
    with ExitStack() as stack:
        for _ in range(2):
            busy = stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)))
            busy.sendall(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
            assert slow.begun.wait(5)
            slow.begun.clear()
        refused = stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)))
        assert refused.recv(1) == b""
        slow.let.set()


def test_a_client_that_reads_nothing_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREAD_SECONDS", 0.2)

    async def large(_request: Request) -> Response:
        return PlainTextResponse("x" * 30_000_000)

    server = site.serve(Route("/large", large))
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: server.connections == 1)
        eventually(lambda: server.connections == 0)


def test_a_request_with_two_lengths_is_refused_and_its_follower_is_not_answered(site: Site) -> None:
    server = site.serve(artifacts(CallGate()))
    request = (
        f"POST {ARTIFACT_PATH} HTTP/1.1\r\nHost: h\r\nX-CRON-SECRET: {SECRET}\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)) as client:
        client.sendall(request.encode())
        said = b""
        while chunk := client.recv(4096):
            said += chunk

    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1


def test_the_description_has_every_route(site: Site) -> None:
    settings = load_settings({"DATABASE_URL": "postgresql://localhost"})
    routes = [
        *schedule_routes(settings, Kinds()),
        *maintenance_routes(MaintenanceRuns(Maintenance(settings, site.metrics, None)), None),
        openapi_route(),
        artifacts(CallGate()),
    ]
    app = create_app(site.health, site.metrics, routes)

    assert {route.path for route in app.routes if isinstance(route, Route)} == set(document()["paths"])


@pytest.mark.parametrize(
    ("body", "logged"),
    [
        ('{"changedBy": "maria"}', "maria"),
        ('{"changedBy": "\\u001b[31mmaria\\nroot"}', "\\x1b[31mmaria\\nroot"),
        ('{"changedBy": {"id": 5}}', None),
        ("[]", None),
        ("not json", None),
        ("", None),
    ],
)
def test_who_changed_the_settings_is_text_for_the_log(body: str, logged: str | None) -> None:
    assert changed_by(body.encode()) == logged
    assert changed_by(b'{"changedBy": "' + b"x" * 5000 + b'"}') == "x" * 200
