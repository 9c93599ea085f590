"""Artifacts at stores and with keys that are not what one hopes for, and what lies under the key meanwhile."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.artifacts.helpers import MIB, Yard, noise
from tests.support.http_server import FaultyServer, reply
from tests.support.s3 import without_list_right

from jobqueue.artifacts.uploads import Sweeper
from jobqueue.errors import Permanent
from jobqueue.storage.multipart import MultipartUpload
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.artifacts.helpers import MediaOrigin, Projects
    from tests.support.s3 import Bucket

SMALL = {"a.jpg": noise(1, 70_000), "b.jpg": noise(2, 90_000)}
LARGE = {f"{n}.jpg": noise(n, 3 * MIB + n) for n in range(3)}


@pytest.fixture
def unlisted(host: Projects, origin: MediaOrigin, shared_bucket: Bucket) -> Iterator[Yard]:
    """The real store, and a key that may read, write and delete, but not list."""
    store = shared_bucket.store
    with without_list_right(store.endpoint) as front:
        objects = Objects(front.url, store.key_id, store.app_key, shared_bucket.name, store.region)
        yield Yard(host, origin, objects)
        objects.close()
    shared_bucket.clear()


@contextmanager
def sent_elsewhere(status: int) -> Iterator[tuple[FaultyServer, Objects]]:
    with FaultyServer(reply(status, headers={"Location": "https://store.example.com/"})) as server:
        objects = Objects(server.url, "key-id", "app-key-canary", "pictures", "us-east-1")
        yield server, objects
        objects.close()


@pytest.mark.parametrize("files", [SMALL, LARGE], ids=["one part", "many parts"])
def test_a_key_that_may_not_list_builds_artifacts_and_finds_them_built(
    unlisted: Yard, files: dict[str, bytes], shared_bucket: Bucket
) -> None:
    unlisted.origin.files = dict(files)
    project = unlisted.host.project(files)
    # What an attempt before has noted is cleaned up first.
    first = unlisted.host.ask(project, upload_key="artifacts/p/d/other.zip")
    unlisted.work()
    row = unlisted.host.artifact(first)
    assert unlisted.read(row) == files
    unlisted.origin.files = {}
    assert unlisted.build(project)["storage_key"] == row["storage_key"]
    assert shared_bucket.contents() == {row["storage_key"]}


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_store_that_sends_us_elsewhere_uses_up_no_retries(host: Projects, origin: MediaOrigin, status: int) -> None:
    origin.files = dict(SMALL)
    with sent_elsewhere(status) as (server, objects):
        row = Yard(host, origin, objects).build(host.project(SMALL))
        assert len(server.requests) < 10
    # It failed for good at once: no attempt is left, and one was made.
    assert (row["status"], row["retry_count"]) == ("FAILED", row["max_retries"])
    assert f"sends us to https://store.example.com ({status}): check B2_ENDPOINT" in row["error_message"]


def test_the_sweep_survives_a_store_that_sends_us_elsewhere(host: Projects, capfd: pytest.CaptureFixture[str]) -> None:
    host.ask(host.project({}), status="FAILED", upload_key="artifacts/p/d/x.zip")
    with sent_elsewhere(301) as (_, objects):
        sweeper = Sweeper(host.dsn, objects)
        with pytest.raises(Permanent, match="check B2_ENDPOINT"):
            sweeper.sweep()
        sweeper._run()
    assert "Traceback" not in capfd.readouterr().err


def test_a_lost_part_starts_the_upload_again(strict_yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard, complete = strict_yard, MultipartUpload.complete
    yard.origin.files = dict(LARGE)
    artifact = yard.host.ask(yard.host.project(LARGE, measured=True))

    def losing(upload: MultipartUpload, size_bytes: int) -> None:
        monkeypatch.setattr(MultipartUpload, "complete", complete)
        upload._etags[2] = '"of another part"'
        complete(upload, size_bytes)

    monkeypatch.setattr(MultipartUpload, "complete", losing)
    yard.work()
    row = yard.host.artifact(artifact)
    assert (row["status"], row["retry_count"]) == ("PENDING", 1)
    assert "lost a part of the upload" in row["error_message"]
    assert yard.uploads() == []
    yard.host.execute("UPDATE download_artifacts SET run_after = now()")
    yard.work()
    assert yard.read(yard.host.artifact(artifact)) == LARGE


def test_a_file_that_changes_and_changes_back_never_lies_under_the_key(yard: Yard) -> None:
    """Its size stays the same, and the whole artifact is one part."""
    yard.origin.files = dict(SMALL)
    project = yard.host.project(SMALL, measured=True)
    yard.origin.files["b.jpg"] = noise(77, len(SMALL["b.jpg"]))
    changed = yard.build(project)
    assert yard.read(changed) == yard.origin.files
    assert set(yard.objects.keys()) == {changed["storage_key"]}
    yard.origin.files["b.jpg"] = SMALL["b.jpg"]
    yard.host.execute("UPDATE project_media SET measured_bytes = NULL, measured_crc32 = NULL, measured_at = NULL")
    row = yard.build(project)
    assert row["storage_key"] != changed["storage_key"]
    assert yard.read(row) == SMALL
