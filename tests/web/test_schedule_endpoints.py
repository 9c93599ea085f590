"""`POST /cron/{schedule}` and `POST /webhook/settings-changed`: what they answer, and that nobody else gets anything done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.schedule.helpers import Rig, entry
from tests.support.host import migrated

from jobqueue.kinds import Kinds, heartbeat
from jobqueue.observe.metrics import Metrics
from jobqueue.schedule.schedules_table import Schedules
from jobqueue.settings import load_settings
from jobqueue.web.schedule_endpoints import schedule_routes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.web.helpers import Answer, Site

    from jobqueue.demo.embedded_postgres import Postgres

KEY, SECRET = "canary-cron-key", "canary-webhook"


@pytest.fixture(scope="session")
def shared_rig(postgres: Postgres) -> Iterator[Rig]:
    """One database for all tests of this module: making one for each would take longer than they do."""
    with Rig(postgres.dsn_of(migrated(postgres))) as rig:
        yield rig


class Endpoints:
    def __init__(self, site: Site, rig: Rig, **environment: str) -> None:
        self.site = site
        self.rig = rig
        kinds = Kinds(Metrics())
        kinds.register("heartbeat", heartbeat)
        site.serve(*schedule_routes(load_settings({"DATABASE_URL": rig.dsn, **environment}), kinds))

    def cron(self, name: str, key: str | None = f"Bearer {KEY}", body: Any = None, **headers: str) -> Answer:
        given = {} if key is None else {"Authorization": key}
        return self.site.ask("POST", f"/cron/{name}", body, **given, **headers)

    def nudge(self, secret: str | None = SECRET, body: Any = b"{}", **headers: str) -> Answer:
        given = {} if secret is None else {"X_Webhook_Secret": secret}
        return self.site.ask("POST", "/webhook/settings-changed", body, **given, **headers)

    @property
    def asked(self) -> int:
        asked: int = self.rig.value("SELECT asked FROM jobqueue.backend_settings")
        return asked


@pytest.fixture
def endpoints(site: Site, shared_rig: Rig) -> Endpoints:
    shared_rig.clear()
    entries = [entry(every_seconds=3600), entry("scaled", scaled=True), entry("foreign", kind="mystery")]
    shared_rig.schedules.sync(entries)
    return Endpoints(site, shared_rig, CRON_JOB_API_KEY=f"{KEY},next-key", WORKER_WEBHOOK_SECRET=SECRET)


class TestCron:
    def test_runs_the_schedule_now_and_once_a_tick(self, endpoints: Endpoints) -> None:
        for _ in range(3):
            answer = endpoints.cron("nightly")
            assert (answer.status, answer.json) == (200, {"status": "started"})
        (job,) = endpoints.rig.jobs()
        assert job["kind"] == "heartbeat"
        assert job["tick_at"] == endpoints.rig.now().replace(minute=0, second=0, microsecond=0)
        endpoints.rig.finish_jobs()
        assert endpoints.cron("nightly").json == {"status": "started"}
        assert len(endpoints.rig.jobs()) == 1

    @pytest.mark.parametrize(
        "key",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            f"Basic {KEY}",
            KEY,
            "Bearer wrong",
            f"Bearer {KEY},next-key",
            f"Bearer {KEY}x",
            "Bearer é",
        ],
    )
    def test_without_the_key_nothing_happens(self, endpoints: Endpoints, key: str | None) -> None:
        for name in ("nightly", "no-such-schedule"):
            answer = endpoints.cron(name, key)
            assert (answer.status, answer.json) == (401, {"error": "Unauthorized"})
        assert endpoints.rig.jobs() == []

    def test_both_values_of_a_rotated_key_do(self, endpoints: Endpoints) -> None:
        assert endpoints.cron("nightly", "bearer next-key").status == 200

    def test_two_headers_are_none(self, endpoints: Endpoints) -> None:
        connection = endpoints.site.connect()
        connection.putrequest("POST", "/cron/nightly")
        for key in (KEY, KEY):
            connection.putheader("Authorization", f"Bearer {key}")
        connection.endheaders()
        assert connection.getresponse().status == 401

    @pytest.mark.parametrize("name", ["no-such-schedule", "%20", "a%0d%0ab", "x" * 200, "..%2f..%2fmetrics"])
    def test_unknown_schedules(self, endpoints: Endpoints, name: str) -> None:
        answer = endpoints.cron(name)
        assert answer.status == 404
        assert endpoints.rig.jobs() == []

    def test_one_that_the_file_no_longer_has(self, endpoints: Endpoints) -> None:
        endpoints.rig.schedules.sync([entry("other")])
        assert endpoints.cron("nightly").status == 404

    def test_one_that_changes_again_and_again_is_left_after_three_attempts(
        self, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = iter(["changed", "changed", "started", *["changed"] * 3])
        monkeypatch.setattr(Schedules, "call", lambda *_: next(said))
        assert endpoints.cron("nightly").json == {"status": "started"}
        answer = endpoints.cron("nightly")
        assert (answer.status, answer.json) == (503, {"error": "The schedule is being changed"})
        assert next(said, None) is None

    def test_a_paused_one_stays_paused(self, endpoints: Endpoints) -> None:
        endpoints.rig.schedules.pause("nightly", "maria")
        assert endpoints.cron("nightly").json == {"status": "paused"}
        assert endpoints.rig.jobs() == []

    def test_a_scaled_one_is_off_without_settings(self, endpoints: Endpoints) -> None:
        assert endpoints.cron("scaled").json == {"status": "off"}
        assert endpoints.rig.jobs("scaled") == []

    def test_work_that_nobody_can_do_is_not_enqueued(self, endpoints: Endpoints) -> None:
        assert endpoints.cron("foreign").status == 503
        assert endpoints.rig.jobs("foreign") == []

    def test_an_oversized_call_does_nothing(self, endpoints: Endpoints) -> None:
        assert endpoints.cron("nightly", body=b"x" * 70_000).status == 413
        chunks = iter([b"x" * 1024] * 80)
        assert endpoints.cron("nightly", body=chunks, Transfer_Encoding="chunked").status == 413
        assert endpoints.rig.jobs() == []

    def test_only_by_post(self, endpoints: Endpoints) -> None:
        assert endpoints.site.ask("GET", "/cron/nightly", Authorization=f"Bearer {KEY}").status == 405

    def test_without_a_key_configured_nobody_is_let_in(self, site: Site, endpoints: Endpoints) -> None:
        closed = Endpoints(site, endpoints.rig)
        assert closed.cron("nightly").status == 401
        assert closed.cron("nightly", "Bearer ").status == 401

    def test_a_database_that_is_away(self, site: Site, endpoints: Endpoints) -> None:
        away = Endpoints(site, endpoints.rig, CRON_JOB_API_KEY=KEY)
        away.site.serve(
            *schedule_routes(
                load_settings({"DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "CRON_JOB_API_KEY": KEY}),
                Kinds(Metrics()),
            )
        )
        assert away.cron("nightly").status == 503


class TestSettingsChanged:
    def test_only_asks_for_a_fetch(self, endpoints: Endpoints) -> None:
        body = b'{"enableJobs": true, "schedulerEnvironment": "production"}'
        answer = endpoints.nudge(body=body)
        assert answer.status == 200
        assert answer.json.keys() == {"success", "message", "timestamp"}
        assert (answer.json["success"], answer.json["message"]) == (True, "Schedulers restarted")
        assert abs(datetime.fromisoformat(answer.json["timestamp"]) - datetime.now(UTC)) < timedelta(seconds=30)
        # The body is never trusted: settings come from the backend.
        assert endpoints.rig.value("SELECT settings FROM jobqueue.backend_settings") is None
        assert endpoints.asked == 1

    @pytest.mark.parametrize("secret", [None, "", "wrong", SECRET.upper(), f"{SECRET} x", "é"])
    def test_forged_calls_do_nothing(self, endpoints: Endpoints, secret: str | None) -> None:
        answer = endpoints.nudge(secret)
        assert (answer.status, answer.json) == (401, {"error": "Unauthorized"})
        assert endpoints.asked == 0

    def test_an_oversized_call_does_nothing(self, endpoints: Endpoints) -> None:
        assert endpoints.nudge(body=b"x" * 70_000).status == 413
        assert endpoints.nudge(body=iter([b"x" * 1024] * 80), Transfer_Encoding="chunked").status == 413
        assert endpoints.asked == 0

    def test_without_a_secret_configured_it_says_so_to_everybody(self, site: Site, endpoints: Endpoints) -> None:
        open_ = Endpoints(site, endpoints.rig)
        for secret in (None, "", SECRET):
            answer = open_.nudge(secret)
            assert (answer.status, answer.json) == (500, {"error": "Server misconfigured"})
        assert endpoints.asked == 0
