from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

import pytest
from tests.support.gated_worker import GatedWorker
from tests.support.host import Host, shared_database
from tests.support.http_server import FaultyServer, Request, Wire, reply
from tests.support.isolation import LEVELS, ahead, default_isolation
from tests.support.jpeg import picture
from tests.support.origin import SteadyOrigin
from tests.support.waiting import eventually

from jobqueue.errors import LeaseLost, Retry
from jobqueue.media.memory_budget import MemoryBudget
from jobqueue.media.orphans import LOCK_PREFIX, note_prefix
from jobqueue.media.publisher import Publisher
from jobqueue.origin.origin_client import OriginClient
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from uuid import UUID

    from tests.support.s3 import Bucket

    from jobqueue.demo.embedded_postgres import Postgres
    from jobqueue.kernel import Context, Job

pytestmark = pytest.mark.slow

OLD, NEW = "publish/aa/old/w1", "publish/bb/new/w1"


def put(bucket: Bucket, prefix: str) -> set[str]:
    """Write both objects of a picture; returns their keys."""
    keys = {f"{prefix}/thumb.webp", f"{prefix}/display.webp"}
    for key in keys:
        bucket.objects.put(key, b"picture", content_type="image/webp")
    return keys


def someone_else(host: Host, prefix: str, status: str) -> UUID:
    """Another job that noted `prefix`; another process holds it if it is in progress."""
    other = host.enqueue("other", run_after="2999-01-01", key_prefix=prefix)
    host.execute(
        "UPDATE publish_jobs SET status = %(status)s, locked_by = 'another', lease_token = gen_random_uuid(),"
        " lease_expires_at = now() + interval '1 hour' WHERE id = %(id)s",
        status=status,
        id=other,
    )
    return other


def test_the_prefix_is_in_the_row_before_anything_is_written(host: Host, bucket: Bucket, worker: GatedWorker) -> None:
    seen: list[str | None] = []

    def handler(job: Job, context: Context) -> None:
        seen.append(host.job(job.id)["key_prefix"])
        note_prefix(context, NEW, bucket.objects)
        seen.append(host.job(job.id)["key_prefix"])

    host.enqueue("photo")
    worker.run(handler)
    assert seen == [None, NEW]


def test_what_an_earlier_attempt_left_elsewhere_is_removed(host: Host, bucket: Bucket, worker: GatedWorker) -> None:
    put(bucket, OLD)
    kept = put(bucket, NEW) | put(bucket, OLD + "0")
    job = host.enqueue("photo", key_prefix=OLD)
    worker.run(lambda _job, context: note_prefix(context, NEW, bucket.objects))
    assert bucket.contents() == kept
    assert host.job(job)["key_prefix"] == NEW


def test_an_attempt_that_finds_its_own_prefix_keeps_it(host: Host, bucket: Bucket, worker: GatedWorker) -> None:
    kept = put(bucket, NEW)
    host.enqueue("photo", key_prefix=NEW)
    worker.run(lambda _job, context: note_prefix(context, NEW, bucket.objects))
    assert bucket.contents() == kept


def test_objects_that_a_file_names_are_kept(host: Host, bucket: Bucket, worker: GatedWorker) -> None:
    kept = put(bucket, OLD)
    host.execute("INSERT INTO auction_files (source_key, cdn_key_prefix) VALUES ('same bytes', %(p)s)", p=OLD)
    job = host.enqueue("photo", key_prefix=OLD)
    worker.run(lambda _job, context: note_prefix(context, NEW, bucket.objects))
    assert bucket.contents() == kept
    assert host.job(job)["key_prefix"] == NEW


@pytest.mark.extended
@pytest.mark.parametrize(("status", "kept"), [("processing", True), ("completed", False), ("failed", False)])
def test_objects_that_another_job_is_writing_are_kept(
    host: Host, bucket: Bucket, worker: GatedWorker, status: str, kept: bool
) -> None:
    written = put(bucket, OLD)
    someone_else(host, OLD, status)
    host.enqueue("photo", key_prefix=OLD)
    worker.run(lambda _job, context: note_prefix(context, NEW, bucket.objects))
    assert bucket.contents() == (written if kept else set())


def test_a_holder_that_lost_its_lease_removes_and_notes_nothing(
    host: Host, bucket: Bucket, worker: GatedWorker
) -> None:
    written = put(bucket, OLD)
    raised: list[Exception] = []

    def handler(job: Job, context: Context) -> None:
        host.execute("UPDATE publish_jobs SET status = 'cancelled' WHERE id = %(id)s", id=job.id)
        try:
            note_prefix(context, NEW, bucket.objects)
        except LeaseLost as error:
            raised.append(error)
            raise

    job = host.enqueue("photo", key_prefix=OLD)
    worker.run(handler)
    eventually(lambda: raised)
    assert bucket.contents() == written
    assert host.job(job)["key_prefix"] == OLD


def test_noting_a_prefix_waits_while_its_objects_are_removed(host: Host, worker: GatedWorker) -> None:
    """Otherwise what the one has just written would be removed by the other, which had looked before."""
    listing, go_on = threading.Event(), threading.Event()

    def hold_the_list(request: Request, wire: Wire) -> None:
        listing.set()
        go_on.wait(10)
        reply(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")(request, wire)

    with FaultyServer(hold_the_list) as store:
        objects = Objects(store.url, "key", "secret", "bucket", "region", attempts=1)
        remover = host.enqueue("photo", key_prefix=OLD)
        noter = host.enqueue("same bytes as before")

        def handler(job: Job, context: Context) -> None:
            if job.id == remover:
                note_prefix(context, NEW, objects)
            else:
                listing.wait(10)
                note_prefix(context, OLD, objects)

        def look_and_let_go() -> None:
            try:
                eventually(lambda: host.rows("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
                noted.append(host.job(noter)["key_prefix"])
            finally:
                go_on.set()

        noted: list[str | None] = []
        looking = threading.Thread(target=look_and_let_go)
        looking.start()
        worker.run(handler)
        looking.join()
        objects.close()
    assert noted == [None]
    assert host.job(noter)["key_prefix"] == OLD


@pytest.mark.parametrize("level", LEVELS)
def test_objects_that_are_named_while_the_lock_is_waited_for_are_kept(
    postgres: Postgres, template: str, bucket: Bucket, level: str
) -> None:
    kept = put(bucket, OLD)
    attach = "INSERT INTO auction_files (source_key, cdn_key_prefix) VALUES ('same bytes', %(prefix)s)"
    with (
        shared_database(postgres, template, f"orphans_{level.replace(' ', '_')}") as host,
        default_isolation(host.dsn, level),
        GatedWorker(host) as worker,
    ):
        job = host.enqueue("photo", key_prefix=OLD)
        with ahead(host.dsn, LOCK_PREFIX, attach, prefix=OLD):
            worker.run(lambda _job, context: note_prefix(context, NEW, bucket.objects))
        assert bucket.contents() == kept
        assert host.job(job)["key_prefix"] == NEW


def publish(worker: GatedWorker, bucket: Bucket, body: bytes, *, die: bool = False) -> None:
    """Publish what is due from a source that holds `body`, or die after writing and before naming."""
    with SteadyOrigin({"photo": body}) as server:
        origin = OriginClient(server.endpoint, server.secret)
        publisher = Publisher(
            origin,
            bucket.objects,
            MemoryBudget(1 << 28),
            worker.metrics,
            cdn_base_url="https://cdn.example.test",
            max_pixels=1_000_000,
            concurrency=2,
        )

        def handler(job: Job, context: Context) -> None:
            publisher.publish(job, cast("Context", _DyingContext(context)) if die else context)

        worker.run(handler)
        publisher.close()
        origin.close()


def test_nothing_is_left_of_an_attempt_on_other_bytes(host: Host, bucket: Bucket, worker: GatedWorker) -> None:
    """The whole way: an attempt writes its objects and dies before it names them, and then the source changes."""
    job = host.enqueue("photo")
    publish(worker, bucket, picture(1), die=True)
    left = bucket.contents()
    assert len(left) == 2
    host.execute("UPDATE publish_jobs SET run_after = now()")
    publish(worker, bucket, picture(2))
    assert host.job(job)["status"] == "completed"
    assert bucket.contents() == host.named_keys()
    assert not bucket.contents() & left


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_nothing_is_left_of_a_job_that_another_took_the_place_of(
    host: Host, bucket: Bucket, worker: GatedWorker, status: str
) -> None:
    """A job that lost its worker is cancelled when its file has another by then, which is often there for new bytes."""
    first = host.enqueue("photo")
    publish(worker, bucket, picture(3), die=True)
    left = bucket.contents()
    host.execute("UPDATE publish_jobs SET status = %(status)s", status=status)
    second = host.enqueue_again(host.job(first)["file_id"])
    publish(worker, bucket, picture(4))
    assert (host.job(first)["status"], host.job(second)["status"]) == (status, "completed")
    assert host.job(first)["key_prefix"] is None
    assert bucket.contents() == host.named_keys()
    assert not bucket.contents() & left


def test_what_a_file_was_published_as_before_stays(host: Host, bucket: Bucket, worker: GatedWorker) -> None:
    """Its URLs may stand in pages that are kept somewhere."""
    first = host.enqueue("photo")
    publish(worker, bucket, picture(5))
    before = bucket.contents()
    host.enqueue_again(host.job(first)["file_id"])
    publish(worker, bucket, picture(6))
    assert bucket.contents() == before | host.named_keys()
    assert len(bucket.contents()) == 4
    # They are noted, so that the purge removes them when the URLs are old.
    superseded = {row["prefix"] for row in host.rows("SELECT prefix FROM jobqueue.superseded_prefixes")}
    assert {key.rpartition("/")[0] for key in before} <= superseded


class _DyingContext:
    """A context whose attempt dies as it commits."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> object:
        return getattr(self._context, name)

    def commit(self, _effects: object) -> None:
        raise Retry("died before it named its objects")
