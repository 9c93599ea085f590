"""The place of a run: a database that keeps its promises on two disks, an object store, an origin, a CDN, a receiver, and the ways
to them, each of which can be made bad."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.rows import dict_row
from tests.chaos.receiver import Receiver
from tests.chaos.schema import SCHEMA
from tests.chaos.work import SECRET, WEBHOOKS, Work
from tests.faults.crowded import CrowdedFolder
from tests.faults.proxy import Proxy
from tests.faults.weather import Answer, Request, Respond, Weather, WeatheredServer, gateway, origin
from tests.support.replication import Pair

from jobqueue.demo.cdn import Cdn
from jobqueue.demo.object_store import ObjectStore
from jobqueue.migrations import migrate
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]

_ORIGIN_SECRET = "origin-secret"

_ROOM = 24 * 1024 * 1024


_SCHEDULES = """
[schedules.chaos]
every = "5s"
kind = "heartbeat"
missed = "catch_up"
catch_up_max = 60
overlap = "allow"
"""


class Database:
    """A connection to `dsn` for one thread, opened again when it was lost; used as a context manager."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._connection: psycopg.Connection[Row] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def rows(self, query: str, *, patience: float = 30.0, **params: object) -> list[Row]:
        """Run a query; waits for a database that is away for up to `patience` seconds.

        A query that changes something must do no harm when it runs twice.
        """
        until = time.monotonic() + patience
        while True:
            try:
                if self._connection is None:
                    self._connection = psycopg.connect(
                        self.dsn, autocommit=True, connect_timeout=5, row_factory=dict_row
                    )
                cursor = self._connection.execute(query.encode(), params or None)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                self.__exit__()
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)


def _distant(respond: Respond) -> Respond:
    """A store that takes its time for each write: what is killed then has written its objects, or some, and not named them."""
    draw = random.Random(0)

    def slowly(request: Request) -> Answer:
        answer = respond(request)
        if request.method == "PUT":
            time.sleep(draw.uniform(0.1, 0.7))
        return answer

    return slowly


class Site:
    """Used as a context manager. `crowded` is None where no small file system can be made.

    The standby is a synchronous one: whatever was acknowledged is on both, so that a failover may lose nothing, and one ledger says
    so of every job, file, delivery and tick. After asynchronous losses host, receiver and store would know of work that the
    database never heard of, and the ledger would have to believe each of them; what a failover loses then, and that it is run
    again, is looked at job by job in tests/faults/test_failover.py. The workers behind a proxy see an address that moves, the
    others have a URL that names both servers.

    `proxied` of the workers reach the database through a proxy. A connection that goes silent there is reset `forgotten_after`
    seconds later, as an operating system does with one that nobody acknowledges (the daemon's connections have keepalives and
    a tcp_user_timeout for that).
    """

    def __init__(self, folder: Path, work: Work, *, proxied: int, seed: int, forgotten_after: float) -> None:
        self.folder = folder
        self.receiver = Receiver()
        self.weather = {name: Weather(seed + n) for n, name in enumerate(("origin", "store", "receiver"))}
        self.crowded: CrowdedFolder | None = None
        self.proxies: list[Proxy] = []
        self._work = work
        self._proxied = proxied
        self._forgotten_after = forgotten_after
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.servers = undo.enter_context(Pair(self.folder / "postgres", synchronous=True))
            migrate(self.dsn)
            self.database = undo.enter_context(Database(self.dsn))
            self.store = undo.enter_context(ObjectStore(self.folder / "store"))
            self.cdn = undo.enter_context(Cdn(self.store))
            store = self.store
            self.objects = Objects(store.endpoint, store.key_id, store.app_key, store.bucket, store.region)
            undo.callback(self.objects.close)
            responders = {
                "origin": origin(self._work.file, _ORIGIN_SECRET),
                "store": _distant(gateway(self.store)),
                "receiver": self.receiver.respond,
            }
            self.peers = {
                name: undo.enter_context(WeatheredServer(respond, self.weather[name]))
                for name, respond in responders.items()
            }
            self.proxies = [
                undo.enter_context(Proxy(self.servers.primary.dsn, forget_after=self._forgotten_after))
                for _ in range(self._proxied)
            ]
            self.temporary = self.folder / "temporary"
            self.why_not_crowded = CrowdedFolder.why_not(self.folder / "tried")
            if self.why_not_crowded is None:
                self.crowded = undo.enter_context(CrowdedFolder(self.temporary, _ROOM))
            else:
                self.temporary.mkdir()
            self.database.rows(SCHEMA)
            for name in WEBHOOKS:
                self.database.rows(
                    "INSERT INTO app_webhooks (webhook_url, webhook_secret, subscribed_events)"
                    " VALUES (%(url)s, %(secret)s, '{chaos.*}')",
                    url=f"{self.peers['receiver'].url}/{name}",
                    secret=SECRET,
                )
            self.schedules = self.folder / "schedules.toml"
            self.schedules.write_text(_SCHEDULES)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def dsn(self) -> str:
        """Leads to the server that takes writes."""
        return self.servers.dsn

    def fail_over(self) -> None:
        """The standby takes the place of the primary that is gone, and gets a standby itself."""
        self.servers.take_over()
        for proxy in self.proxies:
            proxy.move(self.servers.primary.dsn)
        self.servers.rebuild()

    def environment(self, number: int, *, lease: int, concurrency: int) -> dict[str, str]:
        """The environment of worker `number`."""
        return {
            "DATABASE_URL": self.proxies[number].dsn if number < len(self.proxies) else self.dsn,
            "RAID_PUB_ENDPOINT": f"{self.peers['origin'].url}/files",
            "RAID_PUBLISHER_SECRET": _ORIGIN_SECRET,
            "B2_ENDPOINT": self.peers["store"].url,
            "B2_KEY_ID": self.store.key_id,
            "B2_APP_KEY": self.store.app_key,
            "B2_BUCKET": self.store.bucket,
            "B2_REGION": self.store.region,
            "CDN_BASE_URL": self.cdn.url,
            "PORT": "0",
            "SCHEDULES_FILE": str(self.schedules),
            "TMPDIR": str(self.temporary),
            "CONCURRENCY": str(concurrency),
            "LEASE_SECONDS": str(lease),
            "WORKER_POLL_INTERVAL": "1000",
            "DRAIN_TIMEOUT": "10",
            "MAX_RETRIES": "1000",
            "MAX_WEBHOOK_RETRIES": "1000",
            "WEBHOOK_RETRY_BACKOFF_BASE": "1",
            "WEBHOOK_ALLOW_HTTP": "true",
            "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
        }
