from __future__ import annotations

import select
import threading
from http.client import IncompleteRead
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from jobqueue.web import request_limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.responses import Response
    from tests.web.helpers import Site


async def echo(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())})


async def ignore(_request: Request) -> Response:
    return PlainTextResponse("done")


async def fail(_request: Request) -> Response:
    raise RuntimeError("canary in the message")


PATHS = ("/healthz", "/readyz", "/metrics")
ECHO = Route("/echo", echo, methods=["POST"])


class TestHealth:
    def test_health_is_200_while_progress_is_possible(self, site: Site) -> None:
        site.health.add_liveness("claimer", lambda: None)
        answer = site.ask("GET", "/healthz")
        assert (answer.status, answer.json) == (200, {"status": "ok", "checks": {"claimer": "ok"}})
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Server" not in answer.headers

    def test_and_503_with_the_reason_when_it_is_not(self, site: Site) -> None:
        site.health.add_liveness("claimer", lambda: "no sign of progress for 75 s")
        site.health.add_liveness("heartbeat", lambda: None)
        answer = site.ask("GET", "/healthz")
        assert answer.status == 503
        assert answer.json == {
            "status": "failing",
            "checks": {"claimer": "no sign of progress for 75 s", "heartbeat": "ok"},
        }

    def test_a_draining_worker_is_healthy_and_not_ready(self, site: Site) -> None:
        draining = threading.Event()
        site.health.add_readiness("draining", lambda: "the worker is draining" if draining.is_set() else None)
        assert site.ask("GET", "/readyz").status == 200
        draining.set()
        answer = site.ask("GET", "/readyz")
        assert (answer.status, answer.json["checks"]) == (503, {"draining": "the worker is draining"})
        assert site.ask("GET", "/healthz").status == 200

    def test_a_hanging_database_does_not_hold_up_health(self, site: Site) -> None:
        site.serve()
        hang = threading.Event()
        site.health.add_readiness("database", lambda: None if hang.wait(10) else "late")
        asked = threading.Thread(target=site.ask, args=("GET", "/readyz"))
        asked.start()
        assert site.ask("GET", "/healthz").status == 200
        assert asked.is_alive()
        hang.set()
        asked.join()

    def test_head_answers_without_a_body(self, site: Site) -> None:
        for path in PATHS:
            answer = site.ask("HEAD", path)
            assert (answer.status, answer.body) == (200, b""), path

    def test_other_methods_are_refused(self, site: Site) -> None:
        for path in PATHS:
            answer = site.ask("POST", path)
            assert (answer.status, answer.json) == (405, {"error": "Method Not Allowed"}), path
            assert "GET" in answer.headers["Allow"]


class TestMetrics:
    def test_the_page_is_prometheus_text(self, site: Site) -> None:
        site.metrics.bytes_downloaded.inc(42)
        answer = site.ask("GET", "/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"jobqueue_bytes_downloaded_total 42.0" in answer.body
        assert answer.headers["Cache-Control"] == "no-store"

    def test_or_openmetrics_on_demand(self, site: Site) -> None:
        answer = site.ask("GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.body.endswith(b"# EOF\n")


class TestRoutes:
    def test_those_given_are_served(self, site: Site) -> None:
        site.serve(ECHO)
        assert site.ask("POST", "/echo", b"12345").json == {"bytes": 5}

    def test_what_is_not_there_is_404(self, site: Site) -> None:
        for path in ("/", "/none", "/healthz/", "//healthz", "/%2e%2e/healthz"):
            answer = site.ask("GET", path, Host="elsewhere.example.com")
            assert (answer.status, answer.json) == (404, {"error": "Not Found"}), path

    def test_a_fault_is_logged_and_answered_without_details(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        site.serve(Route("/fail", fail))
        answer = site.ask("GET", "/fail?key=canary")
        assert (answer.status, answer.json) == (500, {"error": "Internal server error"})
        assert b"canary" not in answer.body
        (record,) = [record for record in caplog.records if record.message == "http_request_failed"]
        assert record.exc_info is not None
        assert record.__dict__["fields"] == {"method": "GET", "path": "/fail"}
        assert site.ask("GET", "/healthz").status == 200

    def test_a_fault_in_the_middle_of_an_answer_breaks_the_connection(self, site: Site) -> None:
        async def half() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("canary")

        async def page(_request: Request) -> Response:
            return StreamingResponse(half())

        site.serve(Route("/half", page))
        with pytest.raises(IncompleteRead) as caught:
            site.ask("GET", "/half")
        assert caught.value.partial == b"half"


class TestBodies:
    @pytest.fixture(autouse=True)
    def _served(self, site: Site) -> None:
        site.serve(ECHO, Route("/ignore", ignore, methods=["POST"]))

    def test_up_to_the_limit_they_arrive(self, site: Site) -> None:
        assert site.ask("POST", "/echo", b"x" * 65_536).json == {"bytes": 65_536}

    def test_beyond_it_they_are_413_wherever_they_go(self, site: Site) -> None:
        for path in ("/echo", "/ignore", "/none", "/healthz"):
            for size in (65_537, 500_000):
                answer = site.ask("POST", path, b"x" * size)
                assert (answer.status, answer.json) == (413, {"error": "Body too large"}), path
                assert answer.headers["Connection"] == "close"

    def test_a_refused_body_is_read_before_the_answer(self, site: Site) -> None:
        """A client in the middle of sending would see its connection reset and never the 413."""
        connection = site.connect()
        connection.putrequest("POST", "/echo")
        connection.putheader("Content-Length", "200000")
        connection.endheaders(b"x" * 100_000)
        assert select.select([connection.sock], [], [], 0.2)[0] == []
        connection.send(b"x" * 100_000)
        assert connection.getresponse().status == 413

    def test_a_length_is_enough_to_be_refused(self, site: Site) -> None:
        connection = site.connect()
        connection.putrequest("POST", "/echo")
        connection.putheader("Content-Length", str(10**12))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        assert connection.getresponse().status == 413

    def test_without_a_length_they_are_counted(self, site: Site) -> None:
        def chunks(count: int) -> Iterator[bytes]:
            for _ in range(count):
                yield b"x" * 1024

        assert site.ask("POST", "/echo", chunks(64), Transfer_Encoding="chunked").json == {"bytes": 65_536}
        assert site.ask("POST", "/echo", chunks(100), Transfer_Encoding="chunked").status == 413

    def test_a_body_that_does_not_come_is_408(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(request_limits.RequestLimits.__init__, "__defaults__", (request_limits.BODY_LIMIT, 0.1))
        site.serve(ECHO)
        connection = site.connect()
        connection.putrequest("POST", "/echo")
        connection.putheader("Content-Length", "10")
        connection.endheaders(b"12345")
        assert connection.getresponse().status == 408

    def test_a_client_that_leaves_is_no_fault(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        connection = site.connect()
        connection.putrequest("POST", "/echo")
        connection.putheader("Content-Length", "10")
        connection.endheaders(b"12345")
        connection.close()
        assert site.ask("GET", "/healthz").status == 200
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
