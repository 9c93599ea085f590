"""Two at one key in a database whose transactions are not READ COMMITTED by default: whoever waited for the lock sees what was
noted meanwhile. For what dies on the way see test_crash.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.gated_worker import Later
from tests.support.isolation import LEVELS, ahead, default_isolation

from jobqueue.artifacts.uploads import Sweeper, Uploads
from jobqueue.kernel import Queue, Worker, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.artifacts.helpers import Yard

    from jobqueue.kernel import Context, Job

KEY = "artifacts/p/d/x.zip"
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('jobqueue upload ' || %(key)s, 0))"


@pytest.fixture(params=LEVELS)
def otherwise(yard: Yard, request: pytest.FixtureRequest) -> Iterator[Yard]:
    with default_isolation(yard.host.dsn, request.param):
        yield yard


def test_an_artifact_that_is_recorded_while_the_lock_is_waited_for_is_not_swept(otherwise: Yard) -> None:
    host, objects = otherwise.host, otherwise.objects
    objects.put(KEY, b"the same bytes", content_type="application/zip")
    project = host.project({})
    host.ask(project, status="FAILED", upload_key=KEY)
    other = host.ask(project, status="GENERATING")
    record = "UPDATE download_artifacts SET status = 'READY', storage_key = %(key)s WHERE id = %(id)s"
    with ahead(host.dsn, LOCK, record, key=KEY, id=other):
        assert Sweeper(host.dsn, objects).sweep() == 1
    assert list(objects.keys()) == [KEY]


def test_what_another_began_to_build_while_the_lock_was_waited_for_is_not_built_twice(otherwise: Yard) -> None:
    host, objects = otherwise.host, otherwise.objects
    project = host.project({})
    other = host.ask(project, "PHOTOS_ONLY", status="GENERATING", locked_by="another")
    host.execute(
        "UPDATE download_artifacts SET lease_token = gen_random_uuid(), lease_expires_at = now() + interval '1 hour'"
    )
    artifact = host.ask(project)

    def note(_job: Job, context: Context) -> None:
        Uploads(context, objects).note_key(KEY)

    queue = Queue("download_artifacts", note, columns=("upload_key", "upload_id"), backoff=Later())
    worker = Worker(WorkerOptions(host.dsn, concurrency=1, poll_seconds=0.2), [queue])
    begin = "UPDATE download_artifacts SET upload_key = %(key)s WHERE id = %(id)s"
    with ahead(host.dsn, LOCK, begin, key=KEY, id=other):
        worker.run_once(20.0)
    row = host.artifact(artifact)
    assert (row["status"], row["upload_key"]) == ("PENDING", None)
    assert row["error_message"] == "another artifact is building the same archive"
