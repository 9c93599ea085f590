"""The database goes silent while jobs wait for peers: that is neither the peers' silence nor a failed attempt."""

from __future__ import annotations

import json
import threading
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.faults.ledger import Ledger
from tests.faults.ledger_worker import Impatient
from tests.faults.proxy import Proxy
from tests.support.http_server import FaultyServer, Request, Wire, reply, reset
from tests.support.waiting import eventually

from jobqueue.errors import Retry
from jobqueue.kernel import Backoff, Queue, WorkerOptions
from jobqueue.net.address_guard import Guard
from jobqueue.net.download import download
from jobqueue.net.download_limits import DownloadLimits
from jobqueue.net.http_pool import pool
from jobqueue.schedule.target_caller import Caller
from jobqueue.schedule.targets import Target
from jobqueue.settings.database_url import DatabaseUrl
from jobqueue.webhooks.posting import NoAnswer, Poster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.http_server import Answer

    from jobqueue.kernel import Context, Handler, Job

pytestmark = [pytest.mark.slow, pytest.mark.faults]

# A peer may be silent for so long. It has the first second of an outage: only then does the worker know that it is cut off.
PATIENCE: Final = 4.0
SILENCE: Final = 6.0

COLUMNS: Final = ("payload", "schedule", "tick_at", "tick_slot", "tick_until")


def downloads(url: str, folder: Path) -> Handler:
    connections = pool(4)
    limits = DownloadLimits(total_seconds=PATIENCE, read_seconds=PATIENCE, rate_window_seconds=PATIENCE)

    def handle(job: Job, context: Context) -> None:
        download(connections, url, {}, folder / str(job.id), limits, checkpoint=context.checkpoint)

    return handle


def posts(url: str, _folder: Path) -> Handler:
    guard = Guard([ip_network("127.0.0.0/8")], allow_http=True)
    poster = Poster(guard, connections=4, total_seconds=PATIENCE)

    def handle(_job: Job, context: Context) -> None:
        try:
            assert poster.post(url, b"{}", {}, context.checkpoint).status == 200
        except NoAnswer as error:
            raise Retry(str(error)) from error

    return handle


def triggers(url: str, _folder: Path) -> Handler:
    return Caller({"backend": Target("backend", url, None, None, None)}, post_seconds=PATIENCE).post


PEERS: Final = pytest.mark.parametrize("make", [downloads, posts, triggers])


class HeldPeer:
    """A server that gives each request the next of `answers` once it is released; those to come are not held any more."""

    def __init__(self, *answers: Answer) -> None:
        self._released = threading.Event()
        self.server = FaultyServer(*map(self._held, answers))

    def _held(self, answer: Answer) -> Answer:
        def give(request: Request, wire: Wire) -> None:
            self._released.wait(60)
            answer(request, wire)

        return give

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    with Ledger(database) as ledger:
        yield ledger


@pytest.fixture
def proxy(ledger: Ledger) -> Iterator[Proxy]:
    with Proxy(ledger.dsn) as proxy:
        yield proxy


@pytest.fixture
def work(ledger: Ledger, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Handler], None]]:
    """Starts a worker that reaches the ledger by the proxy, and that would notice if it were cut off."""
    monkeypatch.setenv("ANSWER_SECONDS", "0.8")
    conninfo = DatabaseUrl(f"{proxy.dsn}?connect_timeout=2").conninfo({})
    options = WorkerOptions(conninfo, concurrency=4, lease_seconds=40, poll_seconds=0.5, transaction_seconds=0.8)
    workers: list[Impatient] = []

    def start(handler: Handler) -> None:
        queue = Queue("jobs", handler, columns=COLUMNS, backoff=Backoff(first=0.01), keep_attempts="all")
        workers.append(Impatient(options, [queue]))
        workers[0].start()
        eventually(lambda: ledger.rows("SELECT FROM jobqueue.workers WHERE presence IS NOT NULL"))

    yield start
    for worker in workers:
        worker.drain(5.0)


def insert(ledger: Ledger, number: int) -> list[int]:
    payload: dict[str, Any] = {"how": "return", "path": "/x", "json": {}}
    query = """
        INSERT INTO jobs (kind, payload) SELECT 'ledger', %(payload)s::jsonb FROM generate_series(1, %(number)s)
        RETURNING id"""
    return [row["id"] for row in ledger.rows(query, payload=json.dumps(payload), number=number)]


def be_silent(proxy: Proxy, peer: HeldPeer) -> None:
    """Have the database be silent for a while; the peer answers before it can be heard again."""
    proxy.silence()
    # The length of the silence is what is tested.
    threading.Event().wait(SILENCE)
    peer.release()
    proxy.speak()


@pytest.mark.extended
@PEERS
def test_a_peer_that_answers_meanwhile_is_heard(
    ledger: Ledger,
    proxy: Proxy,
    work: Callable[[Handler], None],
    make: Callable[[str, Path], Handler],
    tmp_path: Path,
) -> None:
    peer = HeldPeer(reply(200, b"{}"))
    with peer.server as server:
        work(make(server.url, tmp_path))
        jobs = insert(ledger, 3)
        eventually(lambda: len(server.requests) == len(jobs))
        be_silent(proxy, peer)
        ledger.wait(jobs)
        assert len(server.requests) == len(jobs)
    ledger.check(jobs)


@pytest.mark.extended
@PEERS
def test_a_connection_that_breaks_meanwhile_charges_no_attempt(
    ledger: Ledger,
    proxy: Proxy,
    work: Callable[[Handler], None],
    make: Callable[[str, Path], Handler],
    tmp_path: Path,
) -> None:
    peer = HeldPeer(reset, reply(200, b"{}"))
    with peer.server as server:
        work(make(server.url, tmp_path))
        jobs = insert(ledger, 1)
        eventually(lambda: len(server.requests) == 1)
        be_silent(proxy, peer)
        ledger.wait(jobs)
        assert len(server.requests) == 2
    ledger.check(jobs)
