"""Files that were soft-deleted long ago: their objects go, then their rows, and nothing that anybody else names."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb
from tests.support.host import Host, Row
from tests.support.http_server import FaultyServer, reply
from tests.support.isolation import LEVELS, ahead, default_isolation
from tests.support.s3 import Bucket
from tests.support.waiting import eventually

from jobqueue.kernel import Worker, WorkerOptions
from jobqueue.kinds import Kinds
from jobqueue.media import media_purge, orphans
from jobqueue.media.media_purge import MediaPurge
from jobqueue.observe.metrics import Metrics
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from jobqueue.demo.embedded_postgres import Postgres
    from jobqueue.demo.object_store import ObjectStore
    from jobqueue.kernel import Context, Job
    from jobqueue.kinds import KindHandler

pytestmark = pytest.mark.slow

OLD, RECENT = "31 days", "29 days"


class Purging:
    """A host's files, the objects that they name, and a worker that purges."""

    def __init__(self, host: Host, bucket: Bucket) -> None:
        self.host = host
        self.bucket = bucket
        self._handler: KindHandler | None = None
        kinds = Kinds(Metrics())
        kinds.register("media-purge", self._handle)
        self.worker = Worker(WorkerOptions(host.dsn, poll_seconds=0.2, lease_seconds=5), [kinds.queue()])

    def _handle(self, job: Job, context: Context) -> None:
        assert self._handler is not None
        self._handler(job, context)

    def put(self, prefix: str, *names: str) -> None:
        for name in names or ("thumb.webp", "display.webp"):
            self.bucket.objects.put(f"{prefix}/{name}", b"picture", content_type="image/webp")

    def file(self, prefix: str | None, deleted: str | None = None) -> UUID:
        """A published file whose objects lie under `prefix`, deleted so long ago."""
        if prefix:
            self.put(prefix)
        rows = self.host.rows(
            "INSERT INTO auction_files (cdn_key_prefix, deleted_at, publish_status)"
            " VALUES (%(p)s, now() - %(d)s::interval, CASE WHEN %(d)s::text IS NULL THEN 'published' ELSE 'deleted' END) RETURNING id",
            p=prefix, d=deleted,
        )  # fmt: skip
        id_: UUID = rows[0]["id"]
        return id_

    def job(self, file_id: UUID, status: str, prefix: str) -> None:
        """A job of a file that has noted where it puts objects."""
        self.host.execute(
            "INSERT INTO publish_jobs (file_id, status, key_prefix, lease_token, lease_expires_at)"
            " VALUES (%(f)s, %(s)s, %(p)s, gen_random_uuid(), now() + interval '1 hour')",
            f=file_id, s=status, p=prefix,
        )  # fmt: skip

    def run(self, objects: Objects | None = None, **payload: Any) -> Row:
        """Have the worker purge; returns the job when it has run once."""
        self._handler = MediaPurge(objects or self.bucket.objects).run
        (row,) = self.host.rows(
            "INSERT INTO jobs (kind, payload) VALUES ('media-purge', %(p)s) RETURNING id", p=Jsonb(payload)
        )

        def ran() -> list[Row]:
            return self.host.rows(
                "SELECT * FROM jobs WHERE id = %(id)s AND (status IN ('completed', 'failed') OR retry_count > 0)",
                id=row["id"],
            )

        return eventually(ran)[0]

    @property
    def keys(self) -> set[str]:
        return set(self.bucket.objects.keys())

    @property
    def files(self) -> set[UUID]:
        return {row["id"] for row in self.host.rows("SELECT id FROM auction_files")}


@contextmanager
def making(postgres: Postgres, template: str, object_store: ObjectStore, level: str) -> Iterator[Purging]:
    """One of each, in a database whose transactions are of `level` by default."""
    name = f"{template}_purge_{level.replace(' ', '_')}"
    dsn = postgres.create_database(name, template=template)
    with default_isolation(dsn, level), Host(dsn) as host, Bucket(object_store) as bucket:
        purging = Purging(host, bucket)
        purging.worker.start()
        yield purging
        purging.worker.drain(2.0)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def shared(postgres: Postgres, template: str, object_store: ObjectStore) -> Iterator[Purging]:
    """One of each for all tests of this module: making them for each would take longer than they do."""
    with making(postgres, template, object_store, "read committed") as purging:
        yield purging


@pytest.fixture(scope="module", params=LEVELS)
def otherwise(
    postgres: Postgres, template: str, object_store: ObjectStore, request: pytest.FixtureRequest
) -> Iterator[Purging]:
    """The same in databases that have another isolation by default."""
    with making(postgres, template, object_store, request.param) as purging:
        yield purging


@pytest.fixture
def purging(shared: Purging) -> Purging:
    shared.host.execute("DROP TABLE IF EXISTS lots")
    shared.host.execute("DELETE FROM jobs")
    shared.host.execute("DELETE FROM auction_files")
    shared.bucket.clear()
    return shared


def keys(prefix: str) -> set[str]:
    return {f"{prefix}/thumb.webp", f"{prefix}/display.webp"}


def test_what_goes_and_what_stays(purging: Purging) -> None:
    """Everything at once, for each run costs a worker: see the names of the prefixes."""
    gone = purging.file("p/aa/old", OLD)
    purging.put("p/aa/old", "extra.webp")
    never_published = purging.file(None, OLD)
    live, recent = purging.file("p/aa/live"), purging.file("p/aa/recent", RECENT)
    # Objects are keyed by content: two files with the same bytes share them.
    shared_old, shared_live = purging.file("p/aa/shared", OLD), purging.file("p/aa/shared")
    shared_old_2, shared_recent = purging.file("p/aa/shared-2", OLD), purging.file("p/aa/shared-2", RECENT)
    # Another file's job has put its objects there and not named them yet.
    awaited = purging.file("p/aa/awaited", OLD)
    purging.job(live, "processing", "p/aa/awaited")
    # Objects of an attempt that died before it named them.
    died = purging.file("p/aa/died", OLD)
    purging.put("p/aa/attempt")
    purging.job(died, "failed", "p/aa/attempt")
    # Its own job is running.
    busy = purging.file("p/aa/busy", OLD)
    purging.job(busy, "processing", "p/aa/busy")

    assert purging.run()["status"] == "completed"
    assert purging.files == {live, recent, shared_live, shared_recent, busy}
    assert {gone, never_published, shared_old, shared_old_2, awaited, died} & purging.files == set()
    kept = {"live", "recent", "shared", "shared-2", "awaited", "busy"}
    assert purging.keys == set().union(*(keys(f"p/aa/{name}") for name in kept))


def test_what_a_job_left_that_ended_before_it_named_anything(purging: Purging) -> None:
    """Its file lives on, with other objects or none; only the job says where those are."""
    file, other = purging.file("p/jj/now"), purging.file("p/jj/other")
    for name in ("left", "shared", "recent"):
        purging.put(f"p/jj/{name}")
    purging.job(file, "failed", "p/jj/left")
    purging.job(file, "cancelled", "p/jj/now")
    purging.job(file, "failed", "p/jj/shared")
    purging.job(other, "failed", "p/jj/recent")
    purging.host.execute(
        "UPDATE publish_jobs SET completed_at = now() - interval '31 days' WHERE key_prefix <> 'p/jj/recent'"
    )
    purging.job(other, "pending", "p/jj/shared")
    assert purging.run()["status"] == "completed"
    assert purging.keys == keys("p/jj/now") | keys("p/jj/other") | keys("p/jj/shared") | keys("p/jj/recent")
    noted = purging.host.rows(
        "SELECT key_prefix AS p FROM publish_jobs WHERE status <> 'pending' AND key_prefix IS NOT NULL"
    )
    assert [row["p"] for row in noted] == ["p/jj/recent"]


def test_what_a_file_was_published_as_before(purging: Purging) -> None:
    """It goes when it is old, unless somebody names it again by then."""
    purging.file("p/ss/again")
    for name in ("old", "recent"):
        purging.put(f"p/ss/{name}")
    purging.host.execute(
        "INSERT INTO jobqueue.superseded_prefixes VALUES ('p/ss/old', now() - interval '31 days'),"
        " ('p/ss/again', now() - interval '31 days'), ('p/ss/recent', now() - interval '29 days')"
    )
    assert purging.run()["status"] == "completed"
    assert purging.keys == keys("p/ss/again") | keys("p/ss/recent")
    left = purging.host.rows("SELECT prefix FROM jobqueue.superseded_prefixes")
    assert [row["prefix"] for row in left] == ["p/ss/recent"]
    purging.host.execute("DELETE FROM jobqueue.superseded_prefixes")


def test_whoever_shares_an_object_last_takes_it_away(purging: Purging) -> None:
    for _ in range(3):
        purging.file("p/bb/shared", OLD)
    purging.run()
    assert (purging.files, purging.keys) == (set(), set())


def test_the_payload_says_after_how_many_days(purging: Purging) -> None:
    purging.file("p/cc/recent", RECENT)
    purging.run(days=28)
    assert (purging.files, purging.keys) == (set(), set())
    assert "must be a number" in purging.run(days="soon")["error_message"]


@pytest.mark.parametrize("prefix", ["p", "p/dd"])
def test_a_prefix_that_is_none_of_a_file_takes_no_others_with_it(purging: Purging, prefix: str) -> None:
    """A row that somebody filled in by hand: everything else lies below its prefix, and is not directly below it."""
    purging.file("p/dd/live")
    id_ = purging.file(None, OLD)
    purging.host.execute("UPDATE auction_files SET cdn_key_prefix = %(p)s WHERE id = %(id)s", p=prefix, id=id_)
    purging.run()
    assert purging.keys == keys("p/dd/live")


def test_a_prefix_with_too_many_objects_is_left_alone(purging: Purging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_purge, "_MOST_OBJECTS", 2)
    purging.file("p/ee/many", OLD)
    purging.put("p/ee/many", "third.webp")
    purging.run()
    assert len(purging.keys) == 3


def test_a_file_that_the_host_still_refers_to_stays_with_its_objects(purging: Purging) -> None:
    referred, free = purging.file("p/ff/referred", OLD), purging.file("p/ff/free", OLD)
    purging.host.execute("CREATE TABLE lots (file_id uuid REFERENCES auction_files (id))")
    purging.host.execute("INSERT INTO lots VALUES (%(id)s)", id=referred)
    assert purging.run()["status"] == "completed"
    assert purging.files == {referred}
    assert free not in purging.files
    assert purging.keys == keys("p/ff/referred")


def test_a_store_that_is_away_costs_nothing_but_time(purging: Purging) -> None:
    file = purging.file("p/gg/old", OLD)
    with FaultyServer(reply(503)) as server:
        objects = Objects(server.url, "key", "secret-key", "bucket", "region", attempts=1)
        job = purging.run(objects)
        objects.close()
    assert (job["status"], job["retry_count"]) == ("pending", 1)
    assert purging.files == {file}
    assert purging.run()["status"] == "completed"
    assert purging.files == set()


def test_a_job_cannot_note_a_prefix_while_its_objects_are_removed(purging: Purging) -> None:
    """The lock of media/orphans.py: who notes it then waits, and puts its objects after that."""
    purging.file("p/hh/old", OLD)
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def keys(self, prefix: str) -> Iterator[str]:
            begun.set()
            go_on.wait(10)
            return purging.bucket.objects.keys(prefix)

        def delete(self, key: str) -> None:
            purging.bucket.objects.delete(key)

    run = threading.Thread(target=lambda: purging.run(Slow()))  # type: ignore[arg-type]
    run.start()
    assert begun.wait(10)
    noted = threading.Event()

    def note() -> None:
        with Host(purging.host.dsn) as other:
            other.rows("SELECT pg_advisory_xact_lock(hashtextextended('jobqueue prefix ' || %(p)s, 0))", p="p/hh/old")
            noted.set()

    waiter = threading.Thread(target=note)
    waiter.start()
    with Host(purging.host.dsn) as looking:
        eventually(lambda: looking.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
    assert not noted.is_set()
    go_on.set()
    assert noted.wait(10)
    run.join(20)
    waiter.join(10)
    assert purging.keys == set()


def deleted_file(purging: Purging, prefix: str) -> None:
    purging.file(prefix, OLD)


def left_by_a_job(purging: Purging, prefix: str) -> None:
    purging.put(prefix)
    purging.job(purging.file(None), "failed", prefix)
    purging.host.execute("UPDATE publish_jobs SET completed_at = now() - interval '31 days'")


def superseded(purging: Purging, prefix: str) -> None:
    purging.put(prefix)
    purging.host.execute(
        "INSERT INTO jobqueue.superseded_prefixes VALUES (%(p)s, now() - interval '31 days')", p=prefix
    )


@pytest.mark.parametrize("put", [deleted_file, left_by_a_job, superseded])
def test_the_same_bytes_attached_while_the_lock_is_waited_for_keep_their_objects(
    otherwise: Purging, put: Callable[[Purging, str], None]
) -> None:
    """Whatever the database's default is: the purge looks after it has the lock, and not as things were before."""
    prefix = f"p/kk/{put.__name__}"
    put(otherwise, prefix)
    attach = "INSERT INTO auction_files (cdn_key_prefix, publish_status) VALUES (%(prefix)s, 'published')"
    with ahead(otherwise.host.dsn, orphans.LOCK_PREFIX, attach, prefix=prefix):
        assert otherwise.run()["status"] == "completed"
    assert keys(prefix) <= otherwise.keys


def test_all_versions_go(purging: Purging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store keeps versions, one that is hidden is not listed, and is asked for by name."""
    purging.file("p/ii/old", OLD)
    asked: list[str] = []
    objects = purging.bucket.objects
    delete = objects.delete

    def noted(key: str) -> None:
        asked.append(key)
        delete(key)

    monkeypatch.setattr(objects, "keys", lambda _prefix="": iter(()))
    monkeypatch.setattr(objects, "delete", noted)
    purging.run()
    assert set(asked) == keys("p/ii/old")
