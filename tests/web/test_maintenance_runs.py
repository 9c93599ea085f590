"""`POST /api/workers/...`: what they answer, to whom, when, and that nothing one sends makes them fail."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.host import Host, migrated
from tests.support.waiting import Stopwatch, eventually

from jobqueue.maintenance import Maintenance
from jobqueue.observe.metrics import Metrics
from jobqueue.retention.archive_store import ArchiveStore
from jobqueue.retention.notification_expiry import Expired
from jobqueue.settings import load_settings
from jobqueue.web.maintenance_runs import MaintenanceRuns, bounded, maintenance_routes
from jobqueue.web.openapi import document, openapi_route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.s3 import Bucket
    from tests.web.helpers import Answer, Site

    from jobqueue.demo.embedded_postgres import Postgres

KEY = "canary-cron-key"
NAMES = ("webhookRetry", "notificationExpiry", "dataArchival")
UNAUTHORIZED = {"error": "Unauthorized"}


@pytest.fixture(scope="module")
def shared_host(postgres: Postgres) -> Iterator[Host]:
    """One database for all tests of this module: making one for each would take longer than they do."""
    with Host(postgres.dsn_of(migrated(postgres))) as host:
        yield host


@pytest.fixture
def host(shared_host: Host) -> Iterator[Host]:
    yield shared_host
    shared_host.execute(
        "TRUNCATE platform_events, platform_notifications, webhook_deliveries, jobqueue.archives CASCADE"
    )


class Endpoints:
    def __init__(self, site: Site, dsn: str, store: ArchiveStore | None, key: str = KEY, **environment: str) -> None:
        self.site = site
        loaded = load_settings({"DATABASE_URL": dsn, "CRON_JOB_API_KEY": key, **environment})
        self.runs = MaintenanceRuns(Maintenance(loaded, Metrics(), store))
        site.serve(*maintenance_routes(self.runs, loaded.cron_job_api_key))

    def call(self, name: str, key: str | None = f"Bearer {KEY}", body: Any = None, **headers: str) -> Answer:
        given = {} if key is None else {"Authorization": key}
        return self.site.ask("POST", f"/api/workers/{name}", body, **given, **headers)


@pytest.fixture
def endpoints(site: Site, host: Host) -> Endpoints:
    return Endpoints(site, host.dsn, None)


def test_notification_expiry(endpoints: Endpoints, host: Host) -> None:
    host.execute(
        "INSERT INTO platform_notifications (user_id, expires_at) SELECT 'u', now() FROM generate_series(1, 7)"
    )
    answer = endpoints.call("notificationExpiry")
    assert (answer.status, answer.json) == (200, {"expired": 7, "message": "Expired 7 notifications"})
    assert answer.headers["Cache-Control"] == "no-store"
    assert endpoints.call("notificationExpiry").json == {"expired": 0, "message": "Expired 0 notifications"}


def test_data_archival(site: Site, host: Host, bucket: Bucket) -> None:
    endpoints = Endpoints(
        site, host.dsn, ArchiveStore(bucket.objects), RETENTION_DAYS="30", DATA_ARCHIVAL_BATCH_SIZE="4"
    )
    host.execute(
        "INSERT INTO platform_events (created_at) SELECT now() - interval '31 days' FROM generate_series(1, 9)"
    )
    host.execute("INSERT INTO platform_notifications (created_at) VALUES (now() - interval '1 year'), (now())")
    answer = endpoints.call("dataArchival", body=b"{}", Content_Type="application/json")
    assert answer.status == 200
    assert answer.json == {
        "archived_events": 9,
        "archived_notifications": 1,
        "retention_days": 30,
        "message": "Archived 9 events and 1 notifications older than 30 days",
    }
    assert len(bucket.contents()) == 4


def test_data_archival_without_a_store_says_why_nothing_was_done(endpoints: Endpoints, host: Host) -> None:
    host.execute("INSERT INTO platform_events (created_at) VALUES ('2020-01-01')")
    answer = endpoints.call("dataArchival")
    assert (answer.status, answer.json["archived_events"], answer.json["retention_days"]) == (200, 0, 90)
    assert "ARCHIVE_BEFORE_DELETE=false" in answer.json["message"]
    assert len(host.rows("SELECT FROM platform_events")) == 1


def test_webhook_retry_hands_over_what_is_past_its_time(endpoints: Endpoints, host: Host) -> None:
    host.execute(
        """
        INSERT INTO webhook_deliveries (webhook_id, retry_count, run_after)
        SELECT gen_random_uuid(), n %% 2, now() + interval '1 second' * (CASE WHEN n <= 6 THEN 0.2 ELSE 3600 END)
        FROM generate_series(1, 9) AS n
        """
    )
    eventually(lambda: host.rows("SELECT FROM webhook_deliveries WHERE run_after <= now() HAVING count(*) = 6"))
    with psycopg.connect(host.dsn, autocommit=True) as worker:
        worker.execute("LISTEN jobqueue")
        answer = endpoints.call("webhookRetry")
        assert (answer.status, answer.json["retried"]) == (200, 3)
        assert answer.json["message"] == (
            "Handed 3 due retries to the workers, but no worker serves webhook_deliveries now"
        )
        woken = {notice.payload for notice in worker.notifies(timeout=5, stop_after=1)}
    assert woken == {"due webhook_deliveries"}
    assert len(host.rows("SELECT FROM webhook_deliveries WHERE position IS NOT NULL")) == 6
    host.execute(
        "INSERT INTO jobqueue.workers (name, version, queues, concurrency) VALUES ('w', '1', '{webhook_deliveries}', 1)"
    )
    assert endpoints.call("webhookRetry").json["message"] == "Handed 3 due retries to the workers"
    host.execute("DELETE FROM jobqueue.workers")


@pytest.mark.parametrize("name", NAMES)
class TestTheKey:
    def test_missing_and_wrong_ones_are_answered_alike_and_get_nothing_done(
        self, name: str, endpoints: Endpoints, host: Host
    ) -> None:
        host.execute("INSERT INTO platform_notifications (user_id, expires_at) VALUES ('u', now())")
        wrong = (
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer x",
            f"Basic {KEY}",
            KEY,
            f"Bearer {KEY}x",
            f"Bearer {KEY[:-1]}",
            "Bearer é",
        )
        answers = [endpoints.call(name, key) for key in wrong]
        assert {(answer.status, answer.body) for answer in answers} == {(401, b'{"error":"Unauthorized"}')}
        assert len({frozenset(set(answer.headers) - {"date"}) for answer in answers}) == 1
        assert host.rows("SELECT FROM notification_state") == []

    def test_both_values_are_good_while_it_is_rotated(self, name: str, site: Site, host: Host) -> None:
        endpoints = Endpoints(site, host.dsn, None, "new-cron-key,old-cron-key")
        assert [
            endpoints.call(name, f"bearer  {key} ").status
            for key in ("new-cron-key", "old-cron-key", "new-cron-key,old-cron-key")
        ] == [200, 200, 401]

    def test_an_unset_one_lets_nobody_in(self, name: str, site: Site, host: Host) -> None:
        endpoints = Endpoints(site, host.dsn, None, "")
        assert [endpoints.call(name, key).json for key in (None, "Bearer ", "Bearer None")] == [UNAUTHORIZED] * 3

    def test_two_headers_are_none(self, name: str, endpoints: Endpoints) -> None:
        connection = endpoints.site.connect()
        connection.putrequest("POST", f"/api/workers/{name}")
        for key in (KEY, KEY):
            connection.putheader("Authorization", f"Bearer {key}")
        connection.endheaders()
        assert connection.getresponse().status == 401

    def test_other_methods_and_large_bodies_are_refused(self, name: str, endpoints: Endpoints) -> None:
        assert endpoints.site.ask("GET", f"/api/workers/{name}").status == 405
        assert endpoints.call(name, body=b"x" * 70_000).status == 413


def test_a_database_that_is_away_is_said_to_be(site: Site) -> None:
    endpoints = Endpoints(site, "postgresql://nobody@127.0.0.1:9/none", None)
    for name in NAMES:
        answer = endpoints.call(name)
        assert (answer.status, answer.json) == (503, {"error": "The database does not answer, or not in time"})


class Slow:
    """Batches that the test lets through."""

    def __init__(self) -> None:
        self.batches = threading.Semaphore(0)
        self.begun = threading.Event()

    def run(self, proceed: Callable[[], bool], done: Expired) -> Expired:
        while proceed():
            self.begun.set()
            self.batches.acquire()
            done.number += 1
        done.more = True
        return done


class TestBoundedRun:
    def test_begins_no_batch_when_its_time_is_up(self) -> None:
        slow = Slow()
        slow.batches.release(1_000_000)
        with Stopwatch() as idle:
            done = bounded(slow.run, Expired, run_seconds=0.1, answer_seconds=5.0).call()
        assert idle.seconds < 2
        assert done.number > 0

    def test_is_answered_although_a_batch_goes_on(self) -> None:
        slow = Slow()
        run = bounded(slow.run, Expired, run_seconds=0.1, answer_seconds=0.2)
        with Stopwatch() as idle:
            assert run.call() == Expired(0, more=True)
        assert idle.seconds < 2
        # The next caller waits for its turn, and is answered as well.
        assert run.call() == Expired(0, more=True)
        slow.batches.release()
        assert run.stop(5.0)

    def test_stops_with_the_process(self) -> None:
        slow = Slow()
        run = bounded(slow.run, Expired)
        answers: list[Expired] = []
        caller = threading.Thread(target=lambda: answers.append(run.call()))
        caller.start()
        assert slow.begun.wait(5.0)
        assert not run.stop(0.01)
        slow.batches.release()
        assert run.stop(5.0)
        caller.join()
        assert answers == [Expired(1, more=True)]


_HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
_NAME = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20).filter(
    lambda name: name not in ("content-length", "transfer-encoding", "expect", "connection", "upgrade", "host")
)


def test_whatever_is_sent_the_answer_is_no_failure(endpoints: Endpoints) -> None:
    @settings(max_examples=60, deadline=None)
    @given(
        name=st.sampled_from(NAMES),
        method=st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]),
        key=st.one_of(st.none(), st.just(f"Bearer {KEY}"), _HEADER, _HEADER.map("Bearer {}".format)),
        headers=st.lists(st.tuples(_NAME, _HEADER), max_size=4),
        body=st.binary(max_size=200),
        query=st.text("abc=&%?/+ü", max_size=12),
    )
    def check(name: str, method: str, key: str | None, headers: list[tuple[str, str]], body: bytes, query: str) -> None:
        connection = endpoints.site.connect()
        connection.putrequest(
            method, f"/api/workers/{name}?{query}".encode().decode("ascii", "ignore").replace(" ", "+")
        )
        for header, value in [
            *headers,
            *([] if key is None else [("Authorization", key)]),
            ("Content-Length", str(len(body))),
        ]:
            connection.putheader(header, value.encode("latin-1"))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status < 500, content
        if method == "POST":
            named = [value for header, value in headers if header == "authorization"]
            let_in = key == f"Bearer {KEY}" and not named
            assert answer.status in (200 if let_in else 401, 429)

    check()


def test_the_description_tells_of_the_endpoints_as_they_answer(endpoints: Endpoints) -> None:
    described = document()["paths"]
    for path, operations in described.items():
        if not path.startswith("/api/workers/"):
            continue
        answers = operations["post"]["responses"]
        answer = endpoints.call(path.rpartition("/")[2])
        assert set(answer.json) == set(answers[str(answer.status)]["content"]["application/json"]["schema"]["required"])


def test_the_description_is_served(site: Site) -> None:
    site.serve(openapi_route())
    answer = site.ask("GET", "/openapi.json")
    assert (answer.status, answer.json) == (200, document())
