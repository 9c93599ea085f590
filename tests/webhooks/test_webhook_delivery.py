"""Deliveries to real receivers: what is sent, what each answer means, and what is written down."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from standardwebhooks.webhooks import Webhook
from tests.support.http_server import FaultyServer, Request, Wire, hang, reply, reset, unsized
from tests.support.waiting import eventually
from tests.webhooks.helpers import SECRET

from jobqueue.backoff import Backoff
from jobqueue.webhooks import delivery_records, endpoint_breaker, posting, webhook_delivery
from jobqueue.webhooks.webhook_delivery import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.webhooks.helpers import Yard


def test_a_delivery_is_signed_taken_and_written_down(yard: Yard) -> None:
    with FaultyServer(reply(201, b"thanks")) as server:
        webhook = yard.webhook(f"{server.url}/in?key=1", consecutive_failures=3)
        yard.deliver(webhook, payload='{"type": "made", "price": 1.10}')
        with yard.working():
            assert eventually(yard.ended)
    [request] = server.requests
    assert (request.method, request.target) == ("POST", "/in?key=1")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("jobqueue/")
    # As it was written: a number is not rounded on the way.
    assert b"1.10" in request.body
    assert Webhook(SECRET).verify(request.body, dict(request.headers)) == {"type": "made", "price": 1.1}
    row = yard.row()
    assert request.headers["webhook-id"] == str(row["id"])
    assert (row["status"], row["status_code"], row["response_body"]) == ("completed", 201, "thanks")
    assert row["response_time_ms"] >= 0
    hook = yard.row("app_webhooks")
    assert (hook["total_deliveries"], hook["total_failures"], hook["consecutive_failures"]) == (1, 0, 0)
    assert hook["last_success_at"] is not None
    assert yard.counted("delivered") == 1


@pytest.fixture
def narrow(yard: Yard, request: pytest.FixtureRequest) -> Iterator[None]:
    """A column that the host has made narrower since the table was adopted."""
    column, narrower, usual = request.param
    yard.sql(f"ALTER TABLE webhook_deliveries ALTER COLUMN {column} TYPE {narrower}")
    yield
    yard.sql(f"ALTER TABLE webhook_deliveries ALTER COLUMN {column} TYPE {usual}")


@pytest.mark.parametrize(
    "narrow",
    [("response_body", "varchar(3)", "text"), ("response_time_ms", "smallint USING 0", "int")],
    indirect=True,
    ids=["body", "time"],
)
def test_an_answer_that_has_no_room_is_not_asked_for_again(
    yard: Yard, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_records, "round", lambda _: 2**15, raising=False)
    with FaultyServer(reply(200, b"thank you")) as server:
        yard.deliver(yard.webhook(server.url))
        with yard.working():
            assert eventually(yard.ended)
    assert len(server.requests) == 1
    row = yard.row()
    assert (row["status"], row["status_code"], row["response_body"]) == ("completed", 200, None)


def test_an_event_reaches_its_subscribers_also_when_the_payload_is_left_out(yard: Yard) -> None:
    with FaultyServer(reply(200)) as server:
        webhook = yard.webhook(server.url, subscribed_events=["user.*"])
        [(event,)] = yard.sql(
            "INSERT INTO platform_events (event_type, user_id, event_data) VALUES ('user.made', 'u1', '{\"a\": 1}') RETURNING id"
        )
        yard.sql(
            "INSERT INTO webhook_deliveries (webhook_id, event_id) VALUES (%(webhook)s, %(event)s)",
            webhook=webhook,
            event=event,
        )
        with yard.working():
            assert eventually(lambda: yard.ended(2))
    first, second = (json.loads(request.body) for request in server.requests)
    assert first == second
    assert (first["type"], first["user_id"], first["data"]) == ("user.made", "u1", {"a": 1})


def test_what_fails_is_tried_again_under_the_same_id_with_a_new_signature(yard: Yard) -> None:
    with FaultyServer(reply(500, b"oops"), reply(404), reset, reset, reply(200)) as server:
        yard.deliver(yard.webhook(server.url))
        with yard.working(base=0.1):
            assert eventually(yard.ended)
    assert len({request.headers["webhook-id"] for request in server.requests}) == 1
    for request in server.requests:
        Webhook(SECRET).verify(request.body, dict(request.headers))
    row = yard.row()
    assert (row["status"], row["retry_count"], row["status_code"]) == ("completed", 3, 200)
    hook = yard.row("app_webhooks")
    assert (hook["total_deliveries"], hook["total_failures"], hook["consecutive_failures"]) == (4, 3, 0)
    assert (yard.counted("failed"), yard.counted("rejected"), yard.counted("unreachable")) == (1, 1, 1)


@pytest.mark.parametrize(("limit", "attempts"), [(None, 2), (3, 3)])
def test_attempts_end_at_the_setting_or_at_the_rows_own_limit(yard: Yard, limit: int | None, attempts: int) -> None:
    with FaultyServer(reply(500, b"out of order")) as server:
        own: dict[str, Any] = {} if limit is None else {"max_retries": limit}
        yard.deliver(yard.webhook(server.url), **own)
        with yard.working(base=0.3, max_retries=2):
            assert eventually(yard.ended)
    assert len(server.requests) == attempts
    row = yard.row()
    assert (row["status"], row["retry_count"], row["status_code"], row["response_body"]) == (
        "failed", attempts, 500, "out of order",
    )  # fmt: skip
    assert row["error_message"] == "the endpoint answered 500 Internal Server Error"


def test_a_retry_waits_for_the_base_to_the_power_of_its_number(yard: Yard) -> None:
    with FaultyServer(reply(500)) as server:
        yard.deliver(yard.webhook(server.url), retry_count=2)
        with yard.working(base=4.0):
            row = eventually(lambda: next((row for row in yard.rows() if row["retry_count"] == 3), None))
    assert row is not None
    assert 32.0 <= (row["run_after"] - row["updated_at"]).total_seconds() <= 64.0


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_for_the_whole_endpoint(yard: Yard, status: int) -> None:
    with FaultyServer(reply(status, headers={"Retry-After": "100"})) as server:
        webhook = yard.webhook(server.url)
        yard.deliver(webhook)
        with yard.working():
            assert eventually(lambda: yard.row()["retry_count"] == 1)
            yard.deliver(webhook)
            assert eventually(lambda: str(yard.rows()[1]["error_message"]).startswith("put off: "))
    assert len(server.requests) == 1
    first, second = yard.rows()
    assert 95 < (first["run_after"] - first["updated_at"]).total_seconds() <= 101
    assert 90 < (second["run_after"] - second["updated_at"]).total_seconds() <= 101
    assert (second["retry_count"], second["status"]) == (0, "pending")
    assert "asks to wait 100 s" in first["error_message"]


def test_an_endpoint_that_is_gone_is_never_asked_again(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_delivery, "_CANCEL_EVERY", 0.2)
    with FaultyServer(reply(410)) as server:
        webhook = yard.webhook(server.url)
        yard.deliver(webhook)
        with yard.working():
            assert eventually(yard.ended)
            yard.deliver(webhook, 5)
            yard.deliver(webhook, run_after="tomorrow")
            assert eventually(lambda: yard.ended(7), 15.0)
    assert len(server.requests) == 1
    hook = yard.row("app_webhooks")
    assert (hook["is_active"], hook["disabled_reason"]) == (False, "the endpoint answered 410 Gone")
    gone, *others = yard.rows()
    assert (gone["status"], gone["error_message"]) == (
        "failed", "the endpoint answered 410 Gone: the webhook was disabled",
    )  # fmt: skip
    assert {row["status"] for row in others} == {"cancelled"}
    assert {row["error_message"] for row in others} == {"the webhook is disabled: the endpoint answered 410 Gone"}


def test_a_hundred_failures_in_a_row_disable_a_webhook(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_breaker, "OPEN", Backoff(first=0.0))
    with FaultyServer(reply(500)) as server:
        webhook = yard.webhook(server.url, consecutive_failures=90)
        yard.deliver(webhook, 20, max_retries=1)
        with yard.working():
            assert eventually(lambda: not yard.row("app_webhooks")["is_active"])
    hook = yard.row("app_webhooks")
    assert hook["consecutive_failures"] >= 100
    assert "deliveries in a row failed, the last because the endpoint answered 500" in hook["disabled_reason"]


def test_redirects_are_not_followed(yard: Yard) -> None:
    with (
        FaultyServer(reply(200)) as target,
        FaultyServer(reply(302, headers={"Location": f"{target.url}/x?k=1"})) as server,
    ):
        yard.deliver(yard.webhook(server.url), max_retries=1)
        with yard.working():
            assert eventually(yard.ended)
        assert target.connections == 0
        assert yard.row()["error_message"] == (
            f"the endpoint answered 302 Found, to 127.0.0.1:{target.port}: redirects are not followed"
        )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:{port}/", "127.0.0.1 is a loopback address"),
        ("http://2130706433:{port}/", "127.0.0.1 is a loopback address"),
        ("http://0177.0.0.1:{port}/", "127.0.0.1 is a loopback address"),
        ("http://[::ffff:127.0.0.1]:{port}/", "127.0.0.1 is a loopback address"),
        ("http://[64:ff9b::7f00:1]:{port}/", "64:ff9b::7f00:1 is a NAT64 address"),
        ("http://localhost:{port}/", "is a loopback address"),
        ("ftp://127.0.0.1/", "begins with ftp"),
        ("", "not a URL"),
    ],
)
def test_inside_addresses_are_refused_for_good_and_not_dialled(yard: Yard, url: str, reason: str) -> None:
    with FaultyServer(reply(200)) as server:
        yard.deliver(yard.webhook(url.format(port=server.port)))
        with yard.working("10.0.0.0/8"):
            assert eventually(yard.ended)
        assert server.connections == 0
    row = yard.row()
    assert (row["status"], row["status_code"]) == ("failed", None)
    assert reason in row["error_message"]
    assert yard.row("app_webhooks")["consecutive_failures"] == 1
    assert yard.counted("refused") == 1


def test_without_a_secret_nothing_is_sent(yard: Yard) -> None:
    with FaultyServer(reply(200)) as server:
        yard.deliver(yard.webhook(server.url, secret=None))
        with yard.working():
            assert eventually(yard.ended)
        assert server.connections == 0
    assert (
        yard.row()["error_message"] == "the endpoint is not called: it has no secret to sign with: set webhook_secret"
    )


def test_deliveries_without_a_webhook_or_without_anything_to_send_end(yard: Yard) -> None:
    yard.deliver("00000000-0000-4000-8000-000000000000")
    with FaultyServer(reply(200)) as server:
        yard.deliver(yard.webhook(server.url), payload=None)
        with yard.working():
            assert eventually(lambda: yard.ended(2))
    assert [(row["status"], row["error_message"]) for row in yard.rows()] == [
        ("cancelled", "the webhook of this delivery no longer exists"),
        ("failed", "the delivery has no payload, and its event no longer exists"),
    ]


def test_ten_kilobytes_of_an_answer_are_kept_and_no_more_is_read(yard: Yard) -> None:
    def endless(_request: Request, wire: Wire) -> None:
        wire.head(200, {})
        while wire.open:
            wire.send(b"x\0" * 50_000)

    with FaultyServer(endless) as server:
        yard.deliver(yard.webhook(server.url))
        with yard.working():
            assert eventually(yard.ended)
    row = yard.row()
    assert (row["status"], row["response_body"]) == ("completed", "x" * 5120)


def test_no_answer_in_time_is_a_failure_and_a_body_without_end_is_not(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting.Poster.__init__, "__kwdefaults__", {"total_seconds": 0.4})

    def drip(_request: Request, wire: Wire) -> None:
        wire.head(200, {})
        wire.drip(b"slowly " * 100, 0.05)

    with FaultyServer(hang) as silent, FaultyServer(drip) as dripping:
        yard.deliver(yard.webhook(silent.url), max_retries=1)
        yard.deliver(yard.webhook(dripping.url), max_retries=1)
        with yard.working():
            assert eventually(lambda: yard.ended(2))
    lost, taken = yard.rows()
    assert (lost["status"], lost["error_message"]) == (
        "failed", f"the endpoint 127.0.0.1:{silent.port} did not answer within 0.4 s",
    )  # fmt: skip
    assert (taken["status"], taken["response_body"][:3]) == ("completed", "slo")
    assert yard.counted("timeout") == 1


def test_one_connection_serves_many_deliveries_and_a_stale_one_is_replaced(yard: Yard) -> None:
    with FaultyServer(reply(200)) as server:
        yard.deliver(yard.webhook(server.url), 20)
        with yard.working(slots=1):
            assert eventually(lambda: yard.ended(20), 20.0)
        assert len(server.requests) == 20
        assert server.connections <= 2
    with FaultyServer(reply(200, headers={"Connection": "keep-alive"}), reset, unsized(b"ok")) as closing:
        webhook = yard.webhook(closing.url)
        yard.deliver(webhook)
        with yard.working(slots=1):
            assert eventually(lambda: yard.ended(21))
            yard.deliver(webhook)
            assert eventually(lambda: yard.ended(22))
    assert {row["retry_count"] for row in yard.rows()} == {0}


def test_a_silent_endpoint_does_not_hold_up_another(yard: Yard) -> None:
    with FaultyServer(hang) as silent, FaultyServer(reply(200)) as server:
        yard.deliver(yard.webhook(silent.url), 50)
        good = yard.webhook(server.url)
        yard.deliver(good, 50)
        with yard.working(slots=4) as worker:
            assert eventually(
                lambda: (
                    yard.sql(
                        "SELECT count(*) FROM webhook_deliveries WHERE webhook_id = %(good)s AND status = 'completed'",
                        good=good,
                    )
                    == [(50,)]
                ),
                8.0,
            )
            assert len(silent.requests) <= 2
            worker.hurry()
    assert {row["retry_count"] for row in yard.rows()} == {0}


def test_deliveries_that_end_together_are_all_counted_and_wait_for_nobody(yard: Yard) -> None:
    with FaultyServer(reply(200)) as server:
        webhook = yard.webhook(server.url)
        yard.deliver(webhook, 60)
        holding, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with psycopg.connect(yard.dsn) as connection:
                connection.execute(b"SELECT FROM app_webhooks FOR UPDATE")
                holding.set()
                let_go.wait(20.0)

        holder = threading.Thread(target=hold)
        holder.start()
        assert holding.wait(5.0)
        with yard.working():
            assert eventually(lambda: yard.ended(60))
            assert yard.row("app_webhooks")["total_deliveries"] == 0
            let_go.set()
            holder.join()
            assert eventually(lambda: yard.row("app_webhooks")["total_deliveries"] == 60)


def test_every_outcome_is_counted_from_the_start(yard: Yard) -> None:
    with yard.working():
        samples = yard.metrics.registry.collect()
    counted = next(metric for metric in samples if metric.name == "jobqueue_webhook_deliveries")
    assert {sample.labels["outcome"] for sample in counted.samples} == set(OUTCOMES)
