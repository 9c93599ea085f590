"""A database that stays connected and never answers, or takes no writes: whoever asks over HTTP is told so, and is served again when it speaks."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from tests.faults.proxy import Proxy
from tests.schedule.helpers import Rig, entry
from tests.support.host import migrated
from tests.support.read_only import read_only

from jobqueue import database_session
from jobqueue.bounded_run import Unavailable
from jobqueue.kinds import Kinds, heartbeat
from jobqueue.maintenance import Maintenance
from jobqueue.observe.metrics import Metrics
from jobqueue.retention import archive_session, finished_jobs, notification_expiry
from jobqueue.retention.finished_jobs import FinishedJobs
from jobqueue.retention.notification_expiry import Expired
from jobqueue.settings import load_settings
from jobqueue.web import schedule_endpoints
from jobqueue.web.maintenance_runs import MaintenanceRuns, bounded, maintenance_routes
from jobqueue.web.schedule_endpoints import schedule_routes
from jobqueue.webhooks import webhook_retries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.web.helpers import Site

    from jobqueue.demo.embedded_postgres import Postgres
    from jobqueue.kernel import Context

KEY, SECRET = "canary-cron-key", "canary-webhook"
AWAY = "The database does not answer"
BEARER = {"Authorization": f"Bearer {KEY}"}

# Each new connection asks whose session it has. Most statements are told their limits in one of their own first.
OPENED, LIMITED = "SELECT pg_backend_pid()", "set_config('statement_timeout'"


@pytest.fixture(scope="module")
def shared_rig(postgres: Postgres) -> Iterator[Rig]:
    with Rig(postgres.dsn_of(migrated(postgres))) as rig:
        rig.schedules.sync([entry(every_seconds=3600)])
        yield rig


@pytest.fixture
def proxy(shared_rig: Rig, site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the database of all these endpoints. They lose patience sooner than they do in earnest."""
    monkeypatch.setattr(database_session, "_SIGN_OF_LIFE", 0.3)
    for module, name in (
        (schedule_endpoints, "_SILENCE"),
        (notification_expiry, "_SILENCE"),
        (finished_jobs, "_SILENCE"),
        (archive_session, "SECONDS"),
        (archive_session, "_GRACE"),
        (webhook_retries, "_ANSWER_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.3)
    kinds = Kinds(Metrics())
    kinds.register("heartbeat", heartbeat)
    with Proxy(shared_rig.dsn) as proxy:
        settings = load_settings(
            {"DATABASE_URL": proxy.dsn, "CRON_JOB_API_KEY": KEY, "WORKER_WEBHOOK_SECRET": SECRET,
             "ARCHIVE_BEFORE_DELETE": "false"}
        )  # fmt: skip
        runs = MaintenanceRuns(Maintenance(settings, Metrics(), None))
        site.serve(*schedule_routes(settings, kinds), *maintenance_routes(runs, settings.cron_job_api_key))
        yield proxy


@pytest.mark.parametrize("text", [OPENED, LIMITED])
@pytest.mark.parametrize(
    ("path", "headers"),
    [("/cron/nightly", BEARER), ("/webhook/settings-changed", {"X_Webhook_Secret": SECRET})],
)
def test_schedules(proxy: Proxy, site: Site, path: str, headers: dict[str, str], text: str) -> None:
    # As many calls as may be made at once: none of them stays in the way of others.
    loss = proxy.lose(text, name="jobqueue:http", times=2, silently=True)
    for _ in range(2):
        answer = site.ask("POST", path, b"{}", **headers)
        assert (answer.status, answer.json) == (503, {"error": AWAY})
    assert len(loss.commands) == 2
    assert site.ask("POST", path, b"{}", **headers).status == 200


@pytest.mark.parametrize(
    ("path", "name", "text"),
    [
        *((path, name, OPENED) for path, name in (("webhookRetry", "webhook-retry"), ("notificationExpiry", "expiry"), ("dataArchival", "archival"))),
        ("notificationExpiry", "expiry", LIMITED),
        ("dataArchival", "archival", "set_config('TimeZone'"),
        ("webhookRetry", "webhook-retry", "jobqueue.queues"),
    ],
)  # fmt: skip
def test_maintenance(proxy: Proxy, site: Site, path: str, name: str, text: str) -> None:
    loss = proxy.lose(text, name=f"jobqueue:{name}", silently=True)
    answer = site.ask("POST", f"/api/workers/{path}", **BEARER)
    assert (answer.status, answer.json) == (503, {"error": f"{AWAY}, or not in time"})
    assert len(loss.commands) == 1
    assert site.ask("POST", f"/api/workers/{path}", **BEARER).status == 200


@pytest.mark.extended
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/cron/nightly", BEARER),
        ("/webhook/settings-changed", {"X_Webhook_Secret": SECRET}),
        *((f"/api/workers/{name}", BEARER) for name in ("webhookRetry", "notificationExpiry", "dataArchival")),
    ],
)
def test_one_that_takes_no_writes(proxy: Proxy, site: Site, path: str, headers: dict[str, str]) -> None:
    with read_only(proxy.direct):
        answer = site.ask("POST", path, b"{}", **headers)
        assert (answer.status, answer.json) == (503, {"error": "The database takes no writes"})
    assert site.ask("POST", path, b"{}", **headers).status == 200


@pytest.mark.parametrize("text", [OPENED, LIMITED])
def test_retention_of_jobs_ends(proxy: Proxy, text: str) -> None:
    proxy.lose(text, name="jobqueue:retention", silently=True)
    job: Any = SimpleNamespace(columns={"payload": {}})
    with pytest.raises(psycopg.OperationalError):
        FinishedJobs(proxy.dsn, 90).run(job, cast("Context", None))


def test_a_run_that_has_not_begun_in_time_is_none() -> None:
    """Nor is it one for those that wait behind it."""

    def run(_proceed: Callable[[], bool], _done: Expired) -> None:
        held.wait(10.0)

    held = threading.Event()
    waiting = bounded(run, Expired, run_seconds=0.05, answer_seconds=0.1)
    for _ in range(2):
        with pytest.raises(Unavailable, match="not begun in time"):
            waiting.call()
    held.set()
    assert waiting.stop(5.0)
