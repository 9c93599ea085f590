"""Calls to targets: what is sent, what each answer means for the tick, and the breaker that all processes share."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.schedule.helpers import Rig, Row, entry
from tests.support.http_server import FaultyServer, hang, reply, reset
from tests.support.outage import Outage
from tests.support.waiting import eventually

from jobqueue.errors import Permanent, Retry
from jobqueue.kernel import Worker, WorkerOptions
from jobqueue.kinds import Kinds
from jobqueue.observe.metrics import Metrics
from jobqueue.observe.redact import Redactor
from jobqueue.schedule import target_breaker
from jobqueue.schedule.backend_settings import BackendSettings
from jobqueue.schedule.due_ticks import Tick
from jobqueue.schedule.schedules_table import Proposal
from jobqueue.schedule.target_caller import Caller, _tick_headers
from jobqueue.schedule.targets import Target
from jobqueue.settings.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.kernel import Context, Job
    from jobqueue.kinds import KindHandler

KEY = "canary-worker-key"


class Engine:
    """A database and a worker for all tests of this module: starting them for each would take longer than they do."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.post: KindHandler | None = None
        kinds = Kinds(Metrics())
        kinds.register("post", self._handle)
        options = WorkerOptions(rig.dsn, poll_seconds=0.2, lease_seconds=5)
        self.worker = Worker(options, [kinds.queue()], redact=Redactor([KEY]).redact)

    def _handle(self, job: Job, context: Context) -> None:
        assert self.post is not None
        self.post(job, context)


@pytest.fixture(scope="module")
def engine(shared: str) -> Iterator[Engine]:
    with Rig(shared) as rig:
        engine = Engine(rig)
        engine.worker.start()
        yield engine
        engine.worker.drain(2.0)


class Posting:
    """A backend, and a process that calls it for the ticks of a schedule."""

    def __init__(self, engine: Engine, server: FaultyServer) -> None:
        self.engine = engine
        self.rig = engine.rig
        self.server = server
        self.aim(f"{server.url}/base")
        self.payload: dict[str, Any] = {"target": "backend", "path": "/api/feed/rank?delta=25", "json": {"a": 1}}
        self._ticks = 0

    def aim(self, base_url: str) -> None:
        """Call the backend at `base_url` from now on."""
        header = ("Authorization", f"users API-Key {KEY}")
        target = Target("backend", base_url, header, Secret(KEY), "WORKER_API_KEY")
        self.caller = Caller({"backend": target}, post_seconds=0.5)
        self.engine.post = self.caller.post

    def tick(self, *, period: timedelta = timedelta(hours=1), retries: int = 5) -> Row:
        """Have the schedule tick and its job run; returns what became of the tick."""
        entries = [entry(kind="post", payload=self.payload, every_seconds=3600, max_retries=retries, overlap="allow")]
        self.rig.schedules.sync(entries)
        self._ticks += 1
        at = self.rig.now().replace(microsecond=0) - timedelta(seconds=100 - self._ticks)
        self.rig.wait_for("nightly", at)
        proposal = Proposal(self.rig.schedule(), at, [Tick(at, self.rig.now() + period)], at + timedelta(days=1))
        assert self.rig.schedules.fire([proposal])[0].outcomes == ["enqueued"]
        return self.settled()

    def again(self) -> Row:
        """Make a job that waits due, and have it run."""
        self.rig.rows("UPDATE jobs SET run_after = now(), error_message = NULL WHERE status = 'pending'")
        return self.settled()

    def settled(self) -> Row:
        """Wait until the last job has run; returns what became of its tick."""
        eventually(lambda: self.job["status"] not in ("pending", "processing") or self._waits(self.job))
        return self.rig.ticks()[-1]

    @staticmethod
    def _waits(job: Row) -> bool:
        return job["status"] == "pending" and job["error_message"] is not None

    @property
    def job(self) -> Row:
        return self.rig.jobs()[-1]


@pytest.fixture
def posting(engine: Engine) -> Iterator[Posting]:
    engine.rig.clear()
    with FaultyServer(reply(200, b"{}")) as server:
        posting = Posting(engine, server)
        yield posting
        posting.caller.close()


def test_what_is_sent(posting: Posting) -> None:
    tick = posting.tick()
    (request,) = posting.server.requests
    assert (request.method, request.target) == ("POST", "/base/api/feed/rank?delta=25")
    assert request.headers["authorization"] == f"users API-Key {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == {"a": 1}
    stamp = tick["tick"].isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert request.headers["idempotency-key"] == f"schedule:nightly:tick:{stamp}"
    assert (request.headers["x-schedule-tick"], request.headers["x-attempt"]) == (stamp, "1")
    assert (tick["state"], tick["http_status"], tick["attempts"]) == ("completed", 200, 1)
    assert tick["finished_at"] >= tick["started_at"]


@pytest.mark.parametrize(
    ("schedule", "tick_at", "slot", "key"),
    [
        ("拍賣 Müller", datetime(2026, 1, 1, tzinfo=UTC), "tick", "schedule:%E6%8B%8D%E8%B3%A3 M%C3%BCller:tick:2026-01-01T00:00:00.000000Z"),
        ("a\r\nX-Evil: 1", datetime(2026, 1, 1, tzinfo=UTC), "b\nc", "schedule:a%0D%0AX-Evil: 1:b%0Ac:2026-01-01T00:00:00.000000Z"),
        ("nightly", None, None, "job:7"),
    ],
)  # fmt: skip
def test_whatever_a_row_holds_stays_within_its_header(
    schedule: str, tick_at: datetime | None, slot: str | None, key: str
) -> None:
    columns = {"schedule": schedule, "tick_at": tick_at, "tick_slot": slot}
    headers = _tick_headers(cast("Job", SimpleNamespace(id=7, attempt=1, columns=columns)))
    assert headers["Idempotency-Key"] == key
    assert all(value.isascii() and value.isprintable() for value in headers.values())


def test_without_json_there_is_no_body(posting: Posting) -> None:
    del posting.payload["json"]
    posting.tick()
    (request,) = posting.server.requests
    assert request.body == b""
    assert "content-type" not in request.headers


@pytest.mark.parametrize(
    "answer",
    [reply(503), reply(500), reply(429), reply(408), reset, hang],
    ids=["503", "500", "429", "408", "reset", "hang"],
)
def test_what_passes_is_tried_again_with_the_same_key(posting: Posting, answer: Any) -> None:
    posting.server.script(answer, reply(204))
    assert posting.tick()["state"] == "enqueued"
    assert posting.job["status"] == "pending"
    assert posting.job["retry_count"] == 1
    tick = posting.again()
    assert (tick["state"], tick["http_status"], tick["attempts"]) == ("completed", 204, 2)
    assert len({request.headers["idempotency-key"] for request in posting.server.requests}) == 1
    assert [request.headers["x-attempt"] for request in posting.server.requests] == ["1", "2"]


def test_how_long_to_wait_is_the_backends_to_say(posting: Posting) -> None:
    posting.server.script(reply(503, headers={"Retry-After": "1200"}))
    posting.tick()
    assert timedelta(minutes=19) < posting.job["run_after"] - posting.rig.now() <= timedelta(minutes=20)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "does not accept"),
        (401, "WORKER_API_KEY"),
        (403, "WORKER_API_KEY"),
        (404, "does not know"),
        (302, "redirects"),
    ],
)
def test_what_cannot_change_fails_at_once(posting: Posting, status: int, words: str) -> None:
    posting.server.script(reply(status, headers={"Location": "http://127.0.0.1:1/"}))
    tick = posting.tick()
    assert (tick["state"], tick["http_status"]) == ("failed", status)
    assert words in tick["error_message"]
    assert KEY not in tick["error_message"]
    assert len(posting.server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_secret_follows_no_redirect(posting: Posting, status: int) -> None:
    with FaultyServer(reply(200, b'{"enableJobs": true}')) as other:
        posting.server.script(reply(status, headers={"Location": f"{other.url}/x"}))
        assert posting.tick()["state"] == "failed"
        with pytest.raises(Permanent, match="redirects are not followed"):
            posting.caller.settings()
        assert other.requests == []
    assert len(posting.server.requests) == 2


class TestPathsThatLeadElsewhere:
    """Whoever may insert a job, and nothing else, chooses the path: the key must not go where it leads."""

    # What is appended to `base` leads to `other` when nobody looks.
    HOSTILE = (
        ("http://{target}", "@{other}/x"),
        ("http://{target}", ":x@{other}/x"),
        ("http://127.0.0.1", ":{port}/x"),
    )

    @pytest.fixture
    def other(self) -> Iterator[FaultyServer]:
        with FaultyServer(reply(200, b"{}")) as other:
            yield other

    def lead(self, posting: Posting, other: FaultyServer, base: str, path: str) -> str:
        """Have the backend's base URL be `base`; returns the path that leads from there to `other`."""
        target, elsewhere = (server.url.removeprefix("http://") for server in (posting.server, other))
        posting.aim(base.format(target=target))
        return path.format(other=elsewhere, port=elsewhere.rpartition(":")[2])

    @pytest.mark.parametrize(("base", "path"), HOSTILE)
    def test_of_an_inserted_job(self, posting: Posting, other: FaultyServer, base: str, path: str) -> None:
        payload = {"path": self.lead(posting, other, base, path), "json": {}}
        insert_as_somebody_who_may_only_insert(posting.rig, payload)
        tried = "SELECT * FROM jobs WHERE completed_at IS NOT NULL OR error_message IS NOT NULL"
        (job,) = eventually(lambda: posting.rig.rows(tried))
        assert (other.requests, posting.server.requests) == ([], [])
        assert job["status"] == "failed"
        assert job["retry_count"] >= 1
        assert job["error_message"].startswith("the backend at 127.0.0.1")
        assert "was not called: the path in the payload must begin with one slash" in job["error_message"]

    @pytest.mark.parametrize(("base", "path"), HOSTILE)
    def test_of_a_schedule(self, posting: Posting, other: FaultyServer, base: str, path: str) -> None:
        posting.payload["path"] = self.lead(posting, other, base, path)
        tick = posting.tick()
        assert (other.requests, posting.server.requests) == ([], [])
        assert (tick["state"], tick["http_status"]) == ("failed", None)
        assert "must begin with one slash" in tick["error_message"]

    @pytest.mark.parametrize("payload", [{}, {"path": None}, {"path": 7}])
    def test_no_path_at_all(self, posting: Posting, payload: dict[str, Any]) -> None:
        posting.payload = payload
        tick = posting.tick()
        assert tick["state"] == "failed"
        assert "the path in the payload must be text" in tick["error_message"]

    def test_tell_nothing_about_the_target(self, posting: Posting) -> None:
        posting.server.script(reply(503))
        posting.tick(retries=1)
        posting.payload["path"] = "//evil.example/"
        assert posting.tick()["state"] == "failed"
        assert posting.rig.value("SELECT failures FROM jobqueue.breakers") == 1


def insert_as_somebody_who_may_only_insert(rig: Rig, payload: dict[str, Any]) -> None:
    """Insert a job of the kind `post` by a role that is gone again when it commits."""
    with rig.connect() as connection:
        connection.execute(
            b"CREATE ROLE only_inserts; GRANT INSERT ON jobs TO only_inserts; SET LOCAL ROLE only_inserts"
        )
        connection.execute(b"INSERT INTO jobs (kind, payload) VALUES ('post', %s)", [json.dumps(payload)])
        connection.execute(b"RESET ROLE; DROP OWNED BY only_inserts; DROP ROLE only_inserts")


def test_no_attempt_is_made_after_the_next_tick_is_due(posting: Posting) -> None:
    posting.server.script(reply(503, headers={"Retry-After": "60"}))
    tick = posting.tick(period=timedelta(seconds=30))
    assert (tick["state"], tick["http_status"]) == ("failed", 503)
    assert "next tick comes before" in tick["error_message"]


def test_an_endless_answer_is_cut_off(posting: Posting) -> None:
    def endless(_request: Any, wire: Any) -> None:
        wire.head(200, {"Transfer-Encoding": "chunked"})
        wire.drip(b"1\r\nx\r\n" * 100_000, 0.02)

    posting.server.script(endless)
    posting.tick()
    assert "did not answer within 0.5 s" in posting.job["error_message"]


class _SilentDatabase:
    """A context whose database is silent for the time of an outage."""

    def __init__(self, context: Context, outage: Outage) -> None:
        self._context = context
        self.checkpoint = outage.checkpoint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


@pytest.mark.parametrize(("answer", "state", "error"), [(reply(204), "completed", None), (hang, "enqueued", "did not")])
def test_a_checkpoint_longer_than_the_limit_is_not_the_targets(
    posting: Posting, answer: Any, state: str, error: str | None
) -> None:
    outage = Outage(1.0)
    post = posting.caller.post
    posting.engine.post = lambda job, context: post(job, cast("Context", _SilentDatabase(context, outage)))
    posting.server.script(outage.before(answer))
    assert posting.tick()["state"] == state
    assert (error or "") in (posting.job["error_message"] or "")
    assert len(posting.server.requests) == 1
    assert outage.over.is_set()


def test_a_target_that_this_process_does_not_know(posting: Posting) -> None:
    posting.payload["target"] = "elsewhere"
    posting.tick()
    assert "'elsewhere' is not known" in posting.job["error_message"]
    assert not posting.caller.serves(posting.payload)
    assert posting.server.requests == []


class TestBreaker:
    def open(self, posting: Posting) -> None:
        posting.server.script(reply(503))
        for _ in range(target_breaker.FAILURES):
            posting.tick(retries=1)
        assert len(posting.server.requests) == target_breaker.FAILURES

    def test_opens_after_failures_in_a_row_and_then_nobody_calls(self, posting: Posting) -> None:
        self.open(posting)
        other = Posting(posting.engine, posting.server)
        other._ticks = posting._ticks
        assert other.tick()["state"] == "enqueued"
        assert len(posting.server.requests) == target_breaker.FAILURES
        assert "left alone" in other.job["error_message"]
        assert other.job["retry_count"] == 0
        other.caller.close()

    def test_a_tick_that_cannot_wait_for_it_fails(self, posting: Posting) -> None:
        self.open(posting)
        tick = posting.tick(period=timedelta(seconds=5))
        assert tick["state"] == "failed"
        assert "again and again" in tick["error_message"]

    def test_one_call_tries_when_the_time_is_up(self, posting: Posting) -> None:
        self.open(posting)
        posting.rig.rows("UPDATE jobqueue.breakers SET open_until = now()")
        posting.tick(retries=1)
        waits = posting.rig.rows("SELECT trips, open_until - now() AS wait FROM jobqueue.breakers")
        assert waits[0]["trips"] == 2
        assert waits[0]["wait"] > timedelta(seconds=45)
        assert len(posting.server.requests) == target_breaker.FAILURES + 1

    def test_closes_when_a_call_works(self, posting: Posting) -> None:
        self.open(posting)
        posting.server.script(reply(200))
        posting.rig.rows("UPDATE jobqueue.breakers SET open_until = now()")
        assert posting.tick()["state"] == "completed"
        assert posting.rig.rows("SELECT * FROM jobqueue.breakers") == []
        assert posting.tick()["state"] == "completed"

    def test_a_refusal_is_an_answer(self, posting: Posting) -> None:
        posting.server.script(reply(404))
        for _ in range(target_breaker.FAILURES + 1):
            posting.tick()
        assert posting.rig.rows("SELECT * FROM jobqueue.breakers") == []


class TestSettings:
    @pytest.mark.parametrize(
        ("document", "settings"),
        [
            ({"enableJobs": True, "schedulerEnvironment": "staging"}, BackendSettings(True, "staging")),
            ({"enableJobs": False, "schedulerEnvironment": None, "more": 1}, BackendSettings(False, None)),
            ({"enableJobs": True}, BackendSettings(True, None)),
        ],
    )
    def test_good_ones(self, posting: Posting, document: dict[str, Any], settings: BackendSettings) -> None:
        posting.server.script(reply(200, json.dumps(document).encode()))
        assert posting.caller.settings() == settings
        (request,) = posting.server.requests
        assert (request.method, request.target) == ("GET", "/base/api/settings")
        assert request.headers["authorization"] == f"users API-Key {KEY}"

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"nonsense", b"[]", b"null", b'{"enableJobs": "yes"}', b'{"enableJobs": true, "schedulerEnvironment": "moon"}',
            b'{"enableJobs": true, "schedulerEnvironment": ["dev"]}', b'{"enableJobs": true, "x": "' + b"y" * 70_000 + b'"}', b"\xff\xfe",
        ],
    )  # fmt: skip
    def test_what_is_no_settings_is_a_failure(self, posting: Posting, body: bytes) -> None:
        posting.server.script(reply(200, body))
        with pytest.raises(Retry, match="instead of its settings"):
            posting.caller.settings()

    def test_a_kept_connection_that_was_closed_is_replaced(self, posting: Posting) -> None:
        good = reply(200, b'{"enableJobs": true}')
        posting.server.script(good, reset, good, reset)
        assert posting.caller.settings() == posting.caller.settings()
        assert len(posting.server.requests) == 3
        posting.server.script(reset)
        posting.caller.close()
        with pytest.raises(Retry, match="broke the connection"):
            posting.caller.settings()
        assert len(posting.server.requests) == 1

    def test_a_refusal_names_the_variable(self, posting: Posting) -> None:
        posting.server.script(reply(401))
        with pytest.raises(Permanent, match="WORKER_API_KEY"):
            posting.caller.settings()


def test_multipliers() -> None:
    assert [BackendSettings(True, each).multiplier for each in ("production", "staging", "dev", None)] == [1, 3, 6, 6]
    assert BackendSettings(False, "production").multiplier is None
