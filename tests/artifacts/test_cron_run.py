"""Runs for schedulers: bounded in time, alone or beside workers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.artifacts.helpers import noise
from tests.support.waiting import Stopwatch, eventually

from jobqueue.artifacts.cron_run import ArtifactRuns, Ran
from jobqueue.bounded_run import Unavailable
from jobqueue.kernel import WorkerOptions
from jobqueue.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.artifacts.helpers import Yard

FILES = {f"{n}.jpg": noise(n, 50_000) for n in range(3)}


def runs_on(yard: Yard, *, take: float = 10.0, answer: float = 12.0, lease: float = 30.0) -> ArtifactRuns:
    metrics = Metrics()
    options = WorkerOptions(yard.host.dsn, lease_seconds=lease, poll_seconds=0.2, name="cron")
    return ArtifactRuns(options, yard.queue(metrics), metrics, take_seconds=take, answer_seconds=answer)


@pytest.fixture
def runs(yard: Yard) -> Iterator[ArtifactRuns]:
    runs = runs_on(yard)
    yield runs
    runs.stop()


def a_run_s_start(yard: Yard) -> float:
    """Seconds that a run takes at this moment to find that there is nothing to do."""
    began = time.monotonic()
    assert runs_on(yard).run() == Ran(0, 0)
    return time.monotonic() - began


def test_a_run_works_on_everything_that_is_due(yard: Yard, runs: ArtifactRuns) -> None:
    yard.origin.files = FILES
    for _ in range(4):
        yard.host.ask(yard.host.project(FILES))
    assert runs.run() == Ran(processed=4, recovered=0)
    assert yard.host.artifact_states() == {"READY": 4}
    assert runs.run() == Ran(0, 0)


def test_a_run_recovers_what_a_dead_worker_held(yard: Yard, runs: ArtifactRuns) -> None:
    yard.origin.files = FILES
    held = {"status": "GENERATING", "lease_token": "00000000-0000-0000-0000-000000000001", "locked_by": "dead"}
    past = {"lease_expires_at": "2020-01-01", **held}
    artifact = yard.host.ask(yard.host.project(FILES), **past)
    spent = yard.host.ask(yard.host.project(FILES), retry_count=4, **past)
    # After a restart of the database holders get one lease to come back.
    lease = 5.0
    eventually(lambda: yard.host.rows("SELECT WHERE now() > pg_postmaster_start_time() + interval '6 seconds'"))
    runs = runs_on(yard, lease=lease)
    assert runs.run() == Ran(processed=1, recovered=1)
    assert yard.host.artifact(artifact)["status"] == "READY"
    assert yard.host.artifact(spent)["status"] == "FAILED"


def test_what_is_not_done_in_time_goes_on_in_the_background(yard: Yard) -> None:
    yard.origin.files = FILES
    yard.origin.held["2.jpg"] = 10
    # Time enough to begin with the first.
    take = 0.5 + 3 * a_run_s_start(yard)
    runs = runs_on(yard, take=take, answer=2 * take)
    first, second = (yard.host.ask(yard.host.project(FILES)) for _ in range(2))
    began = time.monotonic()
    with Stopwatch() as idle:
        assert runs.run() == Ran(processed=1, recovered=0)
    assert time.monotonic() - began > 2 * take - 0.1
    assert idle.seconds < 2 * take + 1
    assert yard.host.artifact(first)["status"] == "GENERATING"
    # Another call waits for it, and finds no time left.
    assert runs.run() == Ran(0, 0)
    yard.origin.release()
    eventually(lambda: yard.host.artifact(first)["status"] == "READY")
    assert yard.host.artifact(second)["status"] == "PENDING"
    eventually(lambda: runs.run().processed)
    assert yard.host.artifact_states() == {"READY": 2}


def test_stopping_gives_back_what_is_under_way(yard: Yard) -> None:
    yard.origin.files = FILES
    yard.origin.held["2.jpg"] = 10
    runs = runs_on(yard)
    artifact = yard.host.ask(yard.host.project(FILES))
    caller = threading.Thread(target=runs.run)
    caller.start()
    eventually(lambda: yard.origin.holding)
    assert yard.host.artifact(artifact)["status"] == "GENERATING"
    assert runs.stop(5.0)
    caller.join()
    row = yard.host.artifact(artifact)
    assert (row["status"], row["retry_count"]) == ("PENDING", 0)
    with pytest.raises(Unavailable, match="stopping"):
        runs.run()


def test_without_a_database_a_run_says_so(yard: Yard) -> None:
    options = WorkerOptions("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")
    metrics = Metrics()
    with pytest.raises(Unavailable, match="database"):
        ArtifactRuns(options, yard.queue(metrics), metrics).run()


@pytest.mark.extended
def test_two_workers_and_runs_build_each_of_fifty_artifacts_once(yard: Yard) -> None:
    projects = []
    for number in range(50):
        files = {f"{number}/{n}.jpg": noise(100 * number + n, 20_000) for n in range(3)}
        yard.origin.files |= files
        projects.append(yard.host.project(files, name=f"Project {number}"))
    artifacts = [yard.host.ask(project) for project in projects]
    yard.host.execute("CREATE TABLE built (id uuid, by text)")
    yard.host.execute(
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO built VALUES (NEW.id, OLD.locked_by); RETURN NULL; END $$"""
    )
    yard.host.execute(
        """CREATE TRIGGER note AFTER UPDATE ON download_artifacts FOR EACH ROW
           WHEN (OLD.status <> NEW.status AND NEW.status = 'READY') EXECUTE FUNCTION note()"""
    )
    runs = runs_on(yard, take=30, answer=40)
    answers: list[Ran] = []
    caller = threading.Thread(target=lambda: answers.append(runs.run()))
    with yard.working(name="one"), yard.working(name="two"):
        caller.start()
        eventually(lambda: yard.host.artifact_states() == {"READY": 50}, 60, interval=0.1)
        caller.join()
    builds = yard.host.rows("SELECT id, by FROM built")
    assert Counter(row["id"] for row in builds) == Counter(artifacts)
    by = Counter(row["by"] for row in builds)
    assert set(by) == {"one", "two", "cron"}
    assert answers[0].processed == by["cron"]
    # Each file was asked for once: nobody began what another had.
    assert set(yard.origin.asked.values()) == {1}
    assert all(row["retry_count"] == 0 for row in yard.host.rows("SELECT retry_count FROM download_artifacts"))
