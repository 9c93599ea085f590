"""What the tests of publishing share: a host application's view of its database, an origin that can be held, pictures."""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import psycopg
import pyvips
from psycopg.rows import dict_row
from tests.support.http_server import Request, Wire, reply
from tests.support.origin import HeldOrigin
from tests.support.waiting import eventually

from jobqueue import migrations
from jobqueue.errors import Interrupted
from jobqueue.kernel import Backoff, Queue, Worker, WorkerOptions
from jobqueue.observe.metrics import Metrics
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from jobqueue.demo.embedded_postgres import Postgres
    from jobqueue.demo.object_store import ObjectStore
    from jobqueue.kernel import Context, Handler, Job

_numbers = itertools.count(1)

Row = dict[str, Any]


def migrated(postgres: Postgres) -> str:
    """Make a database with all migrations in it; returns its name, for the fixture `template`."""
    name = f"migrated_{os.getpid()}_{next(_numbers)}"
    migrations.migrate(postgres.create_database(name))
    return name


def picture(seed: int, width: int = 400, height: int = 300) -> bytes:
    """A small JPEG; each seed gives other bytes."""
    noise = pyvips.Image.gaussnoise(width, height, mean=128, sigma=40, seed=seed).cast("uchar")
    data: bytes = noise.bandjoin([noise.rot180(), noise.fliphor()]).jpegsave_buffer(Q=70)
    return data


@contextmanager
def shared_database(postgres: Postgres, template: str, name: str) -> Iterator[Host]:
    """One database for all tests of a module: making one for each would take longer than they do."""
    name = f"{template}_{name}"
    with Host(postgres.create_database(name, template=template)) as host:
        yield host
    postgres.drop_database(name)


class Host:
    """The application whose tables the queues are: it inserts rows and looks at them, and nothing more."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._connection = psycopg.connect(dsn, autocommit=True, row_factory=dict_row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def clear(self) -> None:
        """Remove all files and their jobs."""
        self.execute("TRUNCATE auction_files CASCADE")

    def rows(self, query: str, **params: object) -> list[Row]:
        return self._connection.execute(query.encode(), params).fetchall()

    def execute(self, query: str, **params: object) -> int:
        return self._connection.execute(query.encode(), params).rowcount

    def enqueue(self, source_key: str | None, **columns: object) -> UUID:
        """Insert a file and its job, as a host does; `columns` are of the job. Returns the job's id."""
        file_id = self.rows("INSERT INTO auction_files (source_key) VALUES (%(k)s) RETURNING id", k=source_key)[0]["id"]
        return self.enqueue_again(file_id, **columns)

    def enqueue_again(self, file_id: UUID, **columns: object) -> UUID:
        """Insert another job for a file that is there."""
        names = ", ".join(["file_id", *columns])
        values = ", ".join(["%(file_id)s", *(f"%({name})s" for name in columns)])
        found = self.rows(
            f"INSERT INTO publish_jobs ({names}) VALUES ({values}) RETURNING id", file_id=file_id, **columns
        )
        return found[0]["id"]  # type: ignore[no-any-return]

    def job(self, job_id: UUID) -> Row:
        return self.rows("SELECT * FROM publish_jobs WHERE id = %(id)s", id=job_id)[0]

    def file_of(self, job_id: UUID) -> Row:
        """The file of a job."""
        return self.rows(
            "SELECT f.* FROM auction_files f JOIN publish_jobs j ON j.file_id = f.id WHERE j.id = %(id)s", id=job_id
        )[0]

    def states(self) -> Counter[str]:
        """How many publish jobs are in each state."""
        return Counter(
            {row["status"]: row["n"] for row in self.rows("SELECT status, count(*) n FROM publish_jobs GROUP BY 1")}
        )

    def named_keys(self) -> set[str]:
        """The keys of all objects that some file names."""
        prefixes = self.rows("SELECT cdn_key_prefix AS p FROM auction_files WHERE cdn_key_prefix IS NOT NULL")
        return {f"{row['p']}/{variant}.webp" for row in prefixes for variant in ("thumb", "display")}


class Later(Backoff):
    """No retry comes by itself while a test looks at its row."""

    def delay(self, retry: int) -> float:
        return 600.0


def _give_back(_job: Job, _context: Context) -> None:
    raise Interrupted("the test has ended")


class GatedWorker:
    """A worker on `publish_jobs` in this process that works only within `run`, as the test tells it."""

    def __init__(self, host: Host, redact: Callable[[str], str] = str) -> None:
        self.metrics = Metrics()
        self._host = host
        self._handler: Handler | None = None
        self._may_work = threading.Event()
        queue = Queue("publish_jobs", self._handle, columns=("file_id", "key_prefix"), backoff=Later())
        options = WorkerOptions(host.dsn, concurrency=3, lease_seconds=30, poll_seconds=60)
        self._worker = Worker(options, [queue], metrics=self.metrics, redact=redact)

    def __enter__(self) -> Self:
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A job that waits to be let through must not hold up the end.
        self._handler = _give_back
        self._may_work.set()
        self._worker.drain(5.0)

    def run(self, handler: Handler) -> None:
        """Have `handler` work on everything that is due, and return when nothing is any more."""
        self._handler = handler
        self._may_work.set()
        eventually(self._nothing_is_due, 30)
        self._may_work.clear()

    def _handle(self, job: Job, context: Context) -> None:
        self._may_work.wait()
        assert self._handler is not None
        self._handler(job, context)

    def _nothing_is_due(self) -> bool:
        due = "status = 'processing' AND locked_by <> 'another' OR status = 'pending' AND run_after <= now()"
        return not self._host.rows(f"SELECT FROM publish_jobs WHERE {due}")


class SteadyOrigin(HeldOrigin):
    """An origin that serves `files` by key to whoever carries `secret`; used as a context manager.

    The first `hold[key]` requests for a key get no answer before `release` is called or their client leaves.
    """

    def __init__(self, files: dict[str, bytes] | None = None, *, secret: str = "origin-secret") -> None:
        super().__init__(secret)
        self.files = files or {}
        self.hold: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    def _answer(self, request: Request, wire: Wire) -> None:
        key = parse_qs(urlsplit(request.target).query)["key"][0]
        with self._lock:
            self.asked[key] += 1
            held = self.asked[key] <= self.hold[key]
        if held and not self._released.is_set():
            self._hold()
        body = self.files.get(key)
        if request.headers.get("authorization") != f"Bearer {self.secret}":
            reply(401)(request, wire)
        elif body is None:
            reply(404)(request, wire)
        else:
            reply(200, body)(request, wire)


class Bucket:
    """A bucket of the test's own at the session's store, with a client for it; used as a context manager."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.name = f"bucket-{os.getpid()}-{next(_numbers)}"
        self.objects = Objects(store.endpoint, store.key_id, store.app_key, self.name, store.region)

    def __enter__(self) -> Self:
        # Not by mkdir: the store keeps a list of what was there when it last looked.
        self.objects.client.create_bucket(Bucket=self.name)
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        self.objects.close()

    def contents(self) -> set[str]:
        """The keys of all objects in it."""
        return set(self.objects.keys())

    def clear(self) -> None:
        for key in self.contents():
            self.objects.delete(key)

    def environment(self) -> dict[str, str]:
        """The variables by which a worker finds it."""
        store = self.store
        return {
            "B2_ENDPOINT": store.endpoint,
            "B2_KEY_ID": store.key_id,
            "B2_APP_KEY": store.app_key,
            "B2_BUCKET": self.name,
            "B2_REGION": store.region,
        }


CDN = "https://cdn.example.test"


def worker_environment(dsn: str, origin: SteadyOrigin, bucket: Bucket, **variables: object) -> dict[str, str]:
    """The environment of a daemon that publishes from `origin` to `bucket`; `variables` are added, by their names."""
    return {
        "DATABASE_URL": dsn,
        "RAID_PUB_ENDPOINT": origin.endpoint,
        "RAID_PUBLISHER_SECRET": origin.secret,
        **bucket.environment(),
        "CDN_BASE_URL": CDN,
        "PORT": "0",
        **{name: str(value) for name, value in variables.items()},
    }


class UrlWatcher:
    """Reads the object behind every URL as soon as a file names it; `unreadable` are those that were not there yet."""

    def __init__(self, dsn: str, bucket: Bucket) -> None:
        self.seen: set[str] = set()
        self.unreadable: list[str] = []
        self._dsn = dsn
        self._bucket = bucket
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="url-watcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stop.wait(0.002):
                for urls in connection.execute("SELECT thumb_url, display_url FROM auction_files").fetchall():
                    for url in set(urls) - self.seen - {None}:
                        self.seen.add(url)
                        if self._bucket.objects.head(url.removeprefix(f"{CDN}/")) is None:
                            self.unreadable.append(url)
