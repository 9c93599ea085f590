"""The registry of kinds: what a process works on, and what it leaves to others."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.schedule.helpers import Rig

from jobqueue import kernel
from jobqueue.errors import ConfigurationError, Retry
from jobqueue.kernel import Worker, WorkerOptions
from jobqueue.kinds import Kinds, heartbeat, put_off_while_away
from jobqueue.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Host

    from jobqueue.kernel import Context, Job


@pytest.fixture
def rig(shared_host: Host) -> Iterator[Rig]:
    """A migrated database with nothing in it."""
    with Rig(shared_host.dsn) as rig:
        rig.clear()
        yield rig


def work(rig: Rig, kinds: Kinds) -> None:
    Worker(WorkerOptions(rig.dsn, poll_seconds=0.5, lease_seconds=5), [kinds.queue()]).run_once(10)


def test_a_job_goes_to_the_handler_of_its_kind(rig: Rig) -> None:
    seen: list[Any] = []

    def report(job: Job, _context: Context) -> None:
        seen.append(job.columns["payload"])

    kinds = Kinds(Metrics())
    kinds.register("report", report)
    kinds.register("heartbeat", heartbeat)
    rig.rows("INSERT INTO jobs (kind, payload) VALUES ('report', '{\"a\": 1}'), ('heartbeat', '{}')")
    work(rig, kinds)
    assert seen == [{"a": 1}]
    assert {row["status"] for row in rig.rows("SELECT status FROM jobs")} == {"completed"}


def test_an_unknown_kind_waits_for_somebody_who_knows_it(rig: Rig) -> None:
    metrics = Metrics()
    rig.rows("INSERT INTO jobs (kind) VALUES ('mystery')")
    work(rig, Kinds(metrics))
    (job,) = rig.rows("SELECT *, extract(epoch FROM run_after - created_at)::float8 AS wait FROM jobs")
    assert (job["status"], job["retry_count"], job["crash_count"]) == ("pending", 0, 0)
    assert 1 <= job["wait"] < 50
    assert "'mystery'" in job["error_message"]
    assert b"jobqueue_jobs_unserved_total" in metrics.render()[0]


def test_a_job_that_nobody_has_known_for_long_is_looked_at_once_a_minute_and_told_as_often(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int]] = []
    says = SimpleNamespace(warning=lambda _event, *, kind, jobs: told.append((kind, jobs)))
    monkeypatch.setattr("jobqueue.kinds.log", says)
    rig.rows(
        "INSERT INTO jobs (kind, created_at) SELECT 'mystery', now() - interval '1 hour' FROM generate_series(1, 3)"
    )
    kinds = Kinds()
    work(rig, kinds)
    waits = rig.rows("SELECT extract(epoch FROM run_after - now())::float8 AS wait FROM jobs")
    assert all(50 < job["wait"] <= 60 for job in waits)
    assert told == [("mystery", 1)]
    monkeypatch.setattr("jobqueue.kinds._TOLD_EVERY", 0.0)
    rig.rows("UPDATE jobs SET run_after = now() WHERE id = (SELECT min(id) FROM jobs)")
    work(rig, kinds)
    assert told == [("mystery", 1), ("mystery", 3)]


def test_a_handlers_own_verdict_counts(rig: Rig) -> None:
    def fails(_job: Job, _context: Context) -> None:
        raise Retry("not yet", 30)

    kinds = Kinds(Metrics())
    kinds.register("report", fails)
    rig.rows("INSERT INTO jobs (kind) VALUES ('report')")
    work(rig, kinds)
    assert rig.rows("SELECT retry_count, error_message FROM jobs") == [{"retry_count": 1, "error_message": "not yet"}]


def test_the_kernels_example_leaves_other_peoples_kinds_alone(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """As beside the packaged schedules: a program that does not know their jobs must not fail them."""
    example = "\n".join(re.findall(r"^    (.*)$", kernel.__doc__ or "", flags=re.MULTILINE))
    rig.rows("INSERT INTO jobs (kind, payload) VALUES ('greet', '{\"name\": \"Ada\"}'), ('data-archival', '{}')")
    exec(example.replace("postgresql:///app", rig.dsn), {**vars(kernel), "Kinds": Kinds})
    assert capsys.readouterr().out == "hello Ada\n"
    assert rig.rows("SELECT kind, status, retry_count FROM jobs ORDER BY kind") == [
        {"kind": "data-archival", "status": "pending", "retry_count": 0},
        {"kind": "greet", "status": "completed", "retry_count": 0},
    ]


def yields(_job: Job, _context: Context) -> Iterator[int]:
    yield 1


def test_a_kind_refuses_what_is_no_handler() -> None:
    kinds = Kinds()
    with pytest.raises(ConfigurationError, match="the kind report cannot use its handler: yields is a generator"):
        kinds.register("report", yields)  # type: ignore[arg-type]
    assert not kinds.serves("report", {})


def test_who_serves_what() -> None:
    kinds = Kinds(Metrics())
    kinds.register("post", heartbeat, when=lambda payload: payload.get("target") == "here")
    assert kinds.serves("post", {"target": "here"})
    assert not kinds.serves("post", {"target": "there"})
    assert not kinds.serves("other", {})
    with pytest.raises(ValueError, match="registered already"):
        kinds.register("post", heartbeat)


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (psycopg.OperationalError("connection refused"), 0),
        (psycopg.errors.AdminShutdown(), 0),
        (psycopg.errors.ReadOnlySqlTransaction(), 0),
        # The server is there, and gave the statement up.
        (psycopg.errors.QueryCanceled(), 1),
        (psycopg.errors.UndefinedTable(), 1),
    ],
)
def test_a_job_that_loses_a_connection_of_its_own_is_put_off_uncharged(
    rig: Rig, error: psycopg.Error, charged: int
) -> None:
    def fail(_job: Job, _context: Context) -> None:
        raise error

    kinds = Kinds(Metrics())
    kinds.register("away", put_off_while_away(fail))
    rig.rows("INSERT INTO jobs (kind) VALUES ('away') RETURNING id")
    work(rig, kinds)
    [job] = rig.rows("SELECT status, retry_count, run_after > now() + interval '5 s' AS later FROM jobs")
    assert (job["status"], job["retry_count"]) == ("pending", charged)
    assert charged or job["later"]
