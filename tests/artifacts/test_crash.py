"""Artifacts whose worker dies, is told to stop, or comes back from the dead: nothing is left at the store."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from datetime import timedelta
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from tests.artifacts.helpers import MIB, noise
from tests.support.daemon import CDN, launching
from tests.support.waiting import eventually

from jobqueue.artifacts import uploads
from jobqueue.artifacts.uploads import Sweeper
from jobqueue.demo.launch import free_port
from jobqueue.storage.multipart import MultipartUpload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from tests.artifacts.helpers import Yard
    from tests.support.daemon import Launch

pytestmark = [pytest.mark.slow, pytest.mark.faults]

FILES = {f"{n}.jpg": noise(n, 3 * MIB) for n in range(5)}


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    with launching(tmp_path) as launch:
        yield launch


def environment(yard: Yard, endpoint: str, **variables: object) -> dict[str, str]:
    return {
        "DATABASE_URL": yard.host.dsn,
        "RAID_PUB_ENDPOINT": yard.origin.endpoint,
        "RAID_PUBLISHER_SECRET": yard.origin.secret,
        "B2_ENDPOINT": endpoint,
        "B2_KEY_ID": "key",
        "B2_APP_KEY": "secret-key",
        "B2_BUCKET": yard.objects.bucket,
        "B2_REGION": "us-east-1",
        "CDN_BASE_URL": CDN,
        "PORT": "0",
        "LEASE_SECONDS": "2",
        "WORKER_POLL_INTERVAL": "200",
        **{name: str(value) for name, value in variables.items()},
    }


def held_in_the_middle(yard: Yard, launch: Launch, endpoint: str, **variables: object) -> tuple[Any, UUID]:
    """A worker in the middle of an upload: the last file does not come to its end."""
    yard.origin.files = dict(FILES)
    yard.origin.held["4.jpg"] = 1000
    artifact = yard.host.ask(yard.host.project(FILES, measured=True))
    worker = launch(environment(yard, endpoint, **variables), "--queue", "download_artifacts")
    row = yard.wait_for_upload(artifact)
    eventually(lambda: yard.origin.holding == 1, 20)
    eventually(lambda: yard.host.artifact(artifact)["bytes_done"], 20)
    assert yard.uploads() == [row["upload_key"]]
    return worker, artifact


def test_another_worker_finishes_what_a_killed_one_began(strict_yard: Yard, launch: Launch, moto_endpoint: str) -> None:
    yard = strict_yard
    worker, artifact = held_in_the_middle(yard, launch, moto_endpoint)
    abandoned = yard.host.artifact(artifact)["upload_id"]
    worker.kill()
    yard.origin.release()
    launch(environment(yard, moto_endpoint), "--queue", "download_artifacts")
    eventually(lambda: yard.host.artifact(artifact)["status"] == "READY", 20)
    row = yard.host.artifact(artifact)
    assert yard.read(row) == FILES
    assert row["retry_count"] == 1
    assert abandoned
    assert yard.uploads() == []
    assert list(yard.objects.keys()) == [row["storage_key"]]


@pytest.mark.extended
def test_a_zombies_artifact_is_not_the_one_recorded(strict_yard: Yard, launch: Launch, moto_endpoint: str) -> None:
    yard = strict_yard
    zombie, artifact = held_in_the_middle(yard, launch, moto_endpoint)
    zombie.send(signal.SIGSTOP)
    # Its successor finds another project.
    yard.host.execute("DELETE FROM project_media WHERE source_key = '0.jpg'")
    rest = {key: data for key, data in FILES.items() if key != "0.jpg"}
    yard.origin.release()
    launch(environment(yard, moto_endpoint), "--queue", "download_artifacts")
    eventually(lambda: yard.host.artifact(artifact)["status"] == "READY", 20)
    row = yard.host.artifact(artifact)
    assert yard.uploads() == [], "the successor aborts what it finds noted, under whatever key"
    zombie.send(signal.SIGCONT)
    zombie.send(signal.SIGTERM)
    zombie.wait()
    assert yard.host.artifact(artifact) == row
    assert yard.read(row) == rest
    assert yard.uploads() == []
    assert list(yard.objects.keys()) == [row["storage_key"]]


def test_a_worker_of_another_queue_builds_artifacts_for_a_scheduler(
    strict_yard: Yard, launch: Launch, moto_endpoint: str
) -> None:
    yard = strict_yard
    yard.origin.files = dict(FILES)
    artifact = yard.host.ask(yard.host.project(FILES))
    port = free_port()
    variables = {"PORT": port, "HTTP_HOST": "127.0.0.1", "CRON_SECRET": "the-secret-of-the-scheduler"}
    worker = launch(environment(yard, moto_endpoint, **variables), "--queue", "publish_jobs")
    worker.wait_for("worker_started")

    def call(secret: str) -> tuple[int, bytes]:
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("POST", "/delivery/admin/run-artifact-worker", headers={"X-CRON-SECRET": secret})
            answer = connection.getresponse()
            return answer.status, answer.read()

    assert call("wrong")[0] == 404
    assert yard.host.artifact(artifact)["status"] == "PENDING"
    status, body = call("the-secret-of-the-scheduler")
    assert (status, json.loads(body)) == (200, {"success": True, "processed": 1, "recovered": 0})
    assert yard.read(yard.host.artifact(artifact)) == FILES
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert "the-secret-of-the-scheduler" not in worker.output.read_text()
    assert worker.log("artifact_worker_cron_success", processed=1)
    assert worker.log("artifact_worker_cron_auth_failed")


@pytest.mark.extended
def test_sigterm_gives_the_artifact_back(strict_yard: Yard, launch: Launch, moto_endpoint: str) -> None:
    yard = strict_yard
    worker, artifact = held_in_the_middle(yard, launch, moto_endpoint, DRAIN_TIMEOUT=0)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    row = yard.host.artifact(artifact)
    assert (row["status"], row["retry_count"], row["lease_token"] and row["locked_by"]) == ("PENDING", 0, None)
    assert yard.uploads() == []


@pytest.mark.extended
def test_sigterm_lets_the_artifact_finish(strict_yard: Yard, launch: Launch, moto_endpoint: str) -> None:
    yard = strict_yard
    worker, artifact = held_in_the_middle(yard, launch, moto_endpoint, DRAIN_TIMEOUT=30)
    worker.send(signal.SIGTERM)
    worker.wait_for("drain_started")
    yard.origin.release()
    assert worker.wait() == 0
    assert yard.read(yard.host.artifact(artifact)) == FILES


def test_an_attempt_whose_upload_somebody_aborted_fails_at_once(yard: Yard) -> None:
    yard.origin.files = dict(FILES)
    yard.origin.held["4.jpg"] = 1000
    artifact = yard.host.ask(yard.host.project(FILES, measured=True))
    with yard.working() as worker:
        row = yard.wait_for_upload(artifact)
        eventually(lambda: yard.origin.holding == 1)
        yard.objects.client.abort_multipart_upload(
            Bucket=yard.objects.bucket, Key=row["upload_key"], UploadId=row["upload_id"]
        )
        yard.origin.release()
        eventually(lambda: yard.host.artifact(artifact)["status"] == "PENDING", 20)
        eventually(lambda: worker.idle)
    row = yard.host.artifact(artifact)
    assert row["retry_count"] == 1
    assert "no longer knows the upload" in row["error_message"]
    assert yard.uploads() == []
    assert list(yard.objects.keys()) == []


def test_a_cancelled_artifact_stops_and_leaves_nothing(strict_yard: Yard) -> None:
    yard = strict_yard
    yard.origin.files = dict(FILES)
    yard.origin.held["4.jpg"] = 1000
    artifact = yard.host.ask(yard.host.project(FILES, measured=True))
    with yard.working() as worker:
        yard.wait_for_upload(artifact)
        yard.host.execute("UPDATE download_artifacts SET status = 'CANCELLED'")
        # Without the origin's going on: the cancellation alone ends the work.
        eventually(lambda: worker.idle, 20)
    assert yard.host.artifact(artifact)["status"] == "CANCELLED"
    assert yard.uploads() == []


def test_a_sweep_clears_what_a_dead_worker_left_of_a_finished_row(strict_yard: Yard) -> None:
    yard = strict_yard
    upload = MultipartUpload(yard.objects, "artifacts/p/d/x.zip", content_type="application/zip")
    unnoted = MultipartUpload(yard.objects, "artifacts/p/d/x.zip", content_type="application/zip")
    yard.objects.put("artifacts/p/d/x.zip", b"complete, but never recorded", content_type="application/zip")
    upload.part(1, bytearray(10))
    assert {upload.id, unnoted.id}
    project = yard.host.project({})
    yard.host.ask(project, status="FAILED", upload_key=upload.key, upload_id=upload.id)
    sweeper = Sweeper(yard.host.dsn, yard.objects)
    assert sweeper.sweep() == 1
    assert yard.uploads() == []
    assert list(yard.objects.keys()) == []
    assert yard.host.rows("SELECT upload_key, upload_id FROM download_artifacts") == [
        {"upload_key": None, "upload_id": None}
    ]
    assert sweeper.sweep() == 0


def test_a_sweep_keeps_what_a_row_names(strict_yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = strict_yard
    # This store says of every upload that it was begun in 2010.
    monkeypatch.setattr(uploads, "_ABANDONED_AFTER", timedelta(days=36_500))
    project = yard.host.project({})
    yard.objects.put("artifacts/named.zip", b"x", content_type="application/zip")
    yard.host.ask(project, status="READY", storage_key="artifacts/named.zip")
    yard.host.ask(project, status="FAILED", upload_key="artifacts/named.zip")
    building = MultipartUpload(yard.objects, "artifacts/building.zip", content_type="application/zip")
    yard.host.ask(project, status="GENERATING", upload_key=building.key, upload_id=building.id)
    young = MultipartUpload(yard.objects, "artifacts/young.zip", content_type="application/zip")
    Sweeper(yard.host.dsn, yard.objects).sweep()
    assert list(yard.objects.keys()) == ["artifacts/named.zip"]
    assert sorted(yard.uploads()) == [building.key, young.key]


def test_a_sweep_aborts_old_uploads_that_no_row_names(strict_yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = strict_yard
    monkeypatch.setattr(uploads, "_ABANDONED_AFTER", timedelta(days=-1))
    MultipartUpload(yard.objects, "artifacts/left.zip", content_type="application/zip")
    named = MultipartUpload(yard.objects, "artifacts/named.zip", content_type="application/zip")
    elsewhere = MultipartUpload(yard.objects, "theirs/left.zip", content_type="application/zip")
    yard.host.ask(yard.host.project({}), status="GENERATING", upload_key=named.key, upload_id=named.id)
    assert Sweeper(yard.host.dsn, yard.objects).sweep() == 1
    assert sorted(yard.uploads()) == [named.key, elsewhere.key]


@pytest.mark.extended
def test_two_jobs_of_one_artifact_are_built_once(strict_yard: Yard) -> None:
    yard = strict_yard
    yard.origin.files = dict(FILES)
    yard.origin.held["4.jpg"] = 1000
    project = yard.host.project(FILES, measured=True)
    first = yard.host.ask(project)
    with yard.working() as one, yard.working() as two:
        yard.wait_for_upload(first)
        second = yard.host.ask(project)
        eventually(
            lambda: yard.host.artifact(second)["error_message"] == "another artifact is building the same archive"
        )
        assert yard.host.artifact(second)["retry_count"] == 0
        yard.origin.release()
        yard.host.execute("UPDATE download_artifacts SET run_after = now() WHERE status = 'PENDING'")
        eventually(lambda: yard.host.artifact_states() == {"READY": 2}, 20)
        assert one.metrics.registry.get_sample_value("jobqueue_artifacts_reused_total") is not None
        built = sum(each.metrics.registry.get_sample_value("jobqueue_artifact_bytes_total") or 0 for each in (one, two))
    assert built == yard.host.artifact(first)["size_bytes"]
    assert yard.uploads() == []


def test_progress_is_written_and_not_too_often(strict_yard: Yard) -> None:
    yard = strict_yard
    yard.origin.files = {f"{n}.jpg": noise(n, MIB) for n in range(30)}
    yard.host.execute(
        "CREATE TABLE seen (at timestamptz DEFAULT clock_timestamp(), files int, bytes bigint, total bigint)"
    )
    yard.host.execute(
        """CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO seen (files, bytes, total) VALUES (NEW.files_done, NEW.bytes_done, NEW.bytes_total); RETURN NULL; END $$"""
    )
    yard.host.execute(
        """CREATE TRIGGER see AFTER UPDATE OF files_done ON download_artifacts FOR EACH ROW
           WHEN (NEW.status = 'GENERATING') EXECUTE FUNCTION see()"""
    )
    yard.origin.held["29.jpg"] = 1000
    project = yard.host.project(yard.origin.files, measured=True)
    artifact = yard.host.ask(project)
    with yard.working():
        eventually(lambda: yard.host.rows("SELECT FROM seen WHERE files >= 20"), 20)
        eventually(lambda: len(yard.host.rows("SELECT FROM seen")) >= 2, 20)
        yard.origin.release()
        eventually(lambda: yard.host.artifact_states() == {"READY": 1}, 20)
    gaps = yard.host.rows("SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY at)) AS gap FROM seen")
    assert all(row["gap"] >= 1 for row in gaps if row["gap"] is not None)
    row = yard.host.artifact(artifact)
    assert (row["files_done"], row["files_total"], row["bytes_done"]) == (30, 30, row["size_bytes"])
