from __future__ import annotations

import statistics
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from jobqueue.artifacts.cron_run import Ran
from jobqueue.bounded_run import Unavailable
from jobqueue.observe.logging import configure_logging
from jobqueue.observe.redact import Redactor
from jobqueue.settings.secret import Secret
from jobqueue.web.artifact_run import ARTIFACT_PATH, artifact_route
from jobqueue.web.call_gate import CallGate, RateLimit

if TYPE_CHECKING:
    from tests.web.helpers import Answer, Site

SECRET = "the-cron-secret-of-this-test"


class Runs:
    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None

    def __call__(self) -> Ran:
        self.count += 1
        if self.error is not None:
            raise self.error
        return Ran(processed=3, recovered=2)


@pytest.fixture
def runs() -> Runs:
    return Runs()


def unlimited() -> CallGate:
    return CallGate(failures_per_minute=10_000)


def call(site: Site, secret: str | None = SECRET, method: str = "POST", **headers: str) -> Answer:
    given = {} if secret is None else {"X_CRON_SECRET": secret}
    return site.ask(method, ARTIFACT_PATH, **given, **headers)


def told(answer: Answer) -> tuple[object, ...]:
    """Everything a client can see of an answer but when it came."""
    headers = sorted((name.lower(), value) for name, value in answer.headers.items() if name.lower() != "date")
    return answer.status, headers, answer.body


def test_the_right_secret_runs_and_says_what_was_done(site: Site, runs: Runs) -> None:
    site.serve(artifact_route(runs, Secret(SECRET)))
    answer = call(site)
    assert answer.status == 200
    assert answer.json == {"success": True, "processed": 3, "recovered": 2}
    assert runs.count == 1


def test_both_secrets_are_accepted_while_one_replaces_the_other(site: Site, runs: Runs) -> None:
    site.serve(artifact_route(runs, Secret("new-secret,old-secret")))
    assert [call(site, secret).status for secret in ("new-secret", "old-secret", "new-secret,old-secret")] == [
        200,
        200,
        404,
    ]


def test_wrong_missing_and_unset_answer_as_a_path_that_does_not_exist(runs: Runs, site: Site) -> None:
    site.serve(artifact_route(runs, Secret(SECRET), unlimited()))
    answers = [call(site, "wrong"), call(site, None), call(site, ""), call(site, SECRET + "x"), call(site, "ü")]
    answers += [call(site, method=method) for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")]
    nowhere = site.ask("POST", "/delivery/admin/nothing-here")
    site.serve(artifact_route(runs, None, unlimited()))
    answers += [call(site), call(site, "wrong"), call(site, None)]
    assert runs.count == 0
    assert {str(told(answer)) for answer in answers} == {str(told(nowhere))}
    assert nowhere.status == 404


def test_the_answer_comes_as_soon_whether_the_secret_is_wrong_or_unset(site: Site, runs: Runs) -> None:
    """Each is asked in turn, many times, and the best tenth is compared: nothing else that the machine does is in that."""

    def seconds(port: int, secret: str) -> float:
        with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.connect()
            began = time.perf_counter()
            connection.request("POST", ARTIFACT_PATH, headers={"X-CRON-SECRET": secret})
            connection.getresponse().read()
            return time.perf_counter() - began

    configured = site.serve(artifact_route(runs, Secret(SECRET), unlimited())).port
    unset = site.serve(artifact_route(runs, None, unlimited())).port
    asked = [(configured, SECRET[:-1] + "x"), (configured, "y"), (unset, SECRET)]
    rounds = [[seconds(*each) for each in asked] for _ in range(240)]
    best = [statistics.quantiles(times, n=10)[0] for times in zip(*rounds, strict=True)]
    assert max(best) < 1.4 * min(best), best


def test_the_13th_call_within_a_minute_is_refused(site: Site, runs: Runs) -> None:
    site.serve(artifact_route(runs, Secret(SECRET)))
    statuses = [call(site, secret).status for secret in [SECRET, "wrong"] * 12]
    assert statuses == [200, 404] * 12
    refused = [call(site), call(site, "wrong"), call(site, None)]
    assert [answer.status for answer in refused] == [429, 429, 429]
    assert all(0 < int(answer.headers["Retry-After"]) <= 60 for answer in refused)
    assert runs.count == 12


def test_applications_share_no_counts(site: Site, runs: Runs) -> None:
    site.serve(artifact_route(runs, Secret(SECRET)))
    assert [call(site).status for _ in range(13)] == [200] * 12 + [429]
    site.serve(artifact_route(runs, Secret(SECRET)))
    assert call(site).status == 200


def test_a_run_that_cannot_be_made_is_503(site: Site, runs: Runs) -> None:
    runs.error = Unavailable("the database does not answer")
    site.serve(artifact_route(runs, Secret(SECRET)))
    answer = call(site)
    assert (answer.status, answer.json) == (503, {"error": "the database does not answer"})


def test_other_endpoints_answer_while_runs_are_under_way(site: Site) -> None:
    let = threading.Event()

    def slow() -> Ran:
        let.wait(20)
        return Ran(0, 0)

    site.serve(artifact_route(slow, Secret(SECRET)))
    callers = [threading.Thread(target=call, args=(site,)) for _ in range(10)]
    for caller in callers:
        caller.start()
    try:
        assert site.ask("GET", "/healthz").status == 200
        assert site.ask("GET", "/metrics").status == 200
    finally:
        let.set()
        for caller in callers:
            caller.join()


def test_what_is_logged(site: Site, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json", Redactor(()))
    site.serve(artifact_route(runs, Secret(SECRET)))
    call(site)
    call(site, "a-wrong-secret")
    logged = capsys.readouterr().out
    assert '"event": "artifact_worker_cron_success"' in logged
    assert '"processed": 3' in logged
    assert '"event": "artifact_worker_cron_auth_failed"' in logged
    assert SECRET not in logged
    assert "a-wrong-secret" not in logged


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_calls_are_counted_over_a_minute_that_moves() -> None:
    clock = Clock()
    limit = RateLimit(calls=2, seconds=60, clock=clock)
    assert limit.wait_for("10.0.0.1") == 0
    clock.now += 30
    assert limit.wait_for("10.0.0.1") == 0
    clock.now += 10
    assert limit.wait_for("10.0.0.1") == 20
    assert limit.wait_for("10.0.0.2") == 0, "clients are counted apart"
    clock.now += 20
    assert limit.wait_for("10.0.0.1") == 0, "refused calls do not count"
    assert limit.wait_for("10.0.0.1") == 30


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("unknown", "unknown", True),
    ],
)
def test_what_counts_as_one_client(one: str, other: str, same: bool) -> None:
    limit = RateLimit(calls=1)
    assert limit.wait_for(one) == 0
    assert (limit.wait_for(other) > 0) is same


def test_memory_is_bounded_by_the_number_of_clients() -> None:
    limit = RateLimit(calls=1)
    for number in range(11_000):
        limit.wait_for(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limit._admitted) == 10_000
    assert limit.wait_for("10.0.42.247") > 0, "those that called last are remembered"
