"""What tests of the kernel work with: a database with queues, the kernel's parts, and workers that are always drained."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self, cast
from uuid import uuid4

import psycopg
from psycopg import sql
from tests.support.waiting import eventually

from jobqueue.kernel import Queue, Worker, WorkerOptions
from jobqueue.kernel.claiming.claimer import Claimer
from jobqueue.kernel.database.link import Link
from jobqueue.kernel.database.rows import LaneFloors
from jobqueue.kernel.database.store import Store, describe
from jobqueue.kernel.leasing.leases import Leases
from jobqueue.kernel.meter import Meter
from jobqueue.kernel.running.completer import Completer
from jobqueue.kernel.running.outcome import Outcome
from jobqueue.kernel.running.thread_pool import Pool
from jobqueue.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobqueue.kernel import Handler
    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.running.outcome import Verb

Row = dict[str, Any]


class Rig:
    """One database; `sql` is an autocommit connection of the test's own."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._stack = ExitStack()
        self.sql = self.connect()
        self.link = self._stack.enter_context(_closing(Link(dsn, "test")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def connect(self, *, autocommit: bool = True, **parameters: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Another connection, closed after the test; what it has not committed is then rolled back."""
        connection = psycopg.connect(self.dsn, autocommit=autocommit, **cast("dict[str, Any]", parameters))
        self._stack.callback(connection.close)
        return connection

    def rows(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        cursor = self.sql.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description is not None else []

    def value(self, query: str, *params: object) -> Any:
        return self.rows(query, *params)[0][0]

    def row(self, id_: object, table: str = "jobs") -> Row:
        """One job by its columns."""
        cursor = self.sql.execute(sql.SQL("SELECT * FROM {} WHERE id = %s").format(sql.Identifier(table)), [id_])
        names = [column.name for column in cursor.description or ()]
        return dict(zip(names, cursor.fetchone() or (), strict=True))

    def states(self, table: str = "jobs") -> dict[str, int]:
        """How many jobs are in each state."""
        query = sql.SQL("SELECT status, count(*) FROM {} GROUP BY 1").format(sql.Identifier(table))
        return dict(self.sql.execute(query).fetchall())

    def insert(self, count: int = 1, table: str = "jobs", **columns: object) -> list[Any]:
        """Insert `count` equal jobs in one statement; returns their ids."""
        values = {"kind": "test", **columns} if table == "jobs" else columns
        statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM generate_series(1, {}) RETURNING id").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(
                sql.SQL(value.removeprefix("="))
                if isinstance(value, str) and value.startswith("=")
                else sql.Literal(value)
                for value in values.values()
            ),
            count,
        )
        return [row[0] for row in self.sql.execute(statement).fetchall()]

    def table(self, name: str, **words: str) -> str:
        """Make another queue with a bigint key; returns its name."""
        self.sql.execute(sql.SQL("CREATE TABLE {} (id bigint PRIMARY KEY)").format(sql.Identifier(name)))
        arguments = sql.SQL("").join(
            sql.SQL(", {} => {}").format(sql.Identifier(key), sql.Literal(word)) for key, word in words.items()
        )
        return str(self.sql.execute(sql.SQL("SELECT jobqueue.adopt({}{})").format(name, arguments)).fetchall()[0][0])

    def store(self, queue: str = "jobs", columns: tuple[str, ...] = ()) -> Store:
        return Store(describe(self.link, queue), columns)

    def claim(
        self, limit: int = 100, *, queue: str = "jobs", lease: float = 60.0, worker: str = "w"
    ) -> list[LeasedJob]:
        """Lease due jobs of every lane from the beginning, without a claimer."""
        return self.claim_from(0, limit, queue=queue, lease=lease, worker=worker)

    def claim_from(
        self, floor: int, limit: int = 100, *, queue: str = "jobs", lease: float = 60.0, worker: str = "w"
    ) -> list[LeasedJob]:
        store = self.store(queue)
        priorities = self.sql.execute(
            f"SELECT DISTINCT priority FROM {store.description.table} ORDER BY 1 DESC".encode()
        ).fetchall()
        lanes = [row[0] for row in priorities]
        return store.claim(self.link, LaneFloors(lanes, [floor] * len(lanes)), limit, uuid4(), worker, lease)

    def worker(self, *queues: Queue, **options: Any) -> Worker:
        """A worker that is started, and drained after the test."""
        worker = self.unstarted(*queues, **options)
        worker.start()
        self._stack.callback(self._drain, worker)
        return worker

    def unstarted(self, *queues: Queue, redact: Callable[[str], str] = str, **options: Any) -> Worker:
        settings: dict[str, Any] = {"concurrency": 4, "lease_seconds": 10.0, "poll_seconds": 5.0, **options}
        return Worker(WorkerOptions(self.dsn, **settings), queues, redact=redact)

    def run_once(self, handler: Handler, queue: str = "jobs", **options: Any) -> Worker:
        """Work on everything that is due."""
        own = {field.name for field in fields(Queue)} - {"name", "handler"}
        policy = {key: options.pop(key) for key in own & options.keys()}
        worker = self.unstarted(Queue(queue, handler, **policy), **options)
        worker.run_once(20.0)
        return worker

    def _drain(self, worker: Worker) -> None:
        if not worker.draining:
            worker.drain(5.0)

    def engine(self, *queues: Queue, size: int = 4, lease: float = 60.0, poll: float = 15.0) -> Engine:
        engine = Engine(self, queues, size, lease, poll)
        self._stack.callback(engine.close)
        return engine


class Engine:
    """A claimer and a completer that the test turns by hand. Jobs do not run: `begun` holds them until they are ended."""

    def __init__(self, rig: Rig, queues: Sequence[Queue], size: int, lease: float, poll: float) -> None:
        self.rig = rig
        self.begun: list[LeasedJob] = []
        self.pool = Pool(size, self._run, lambda: None)
        self.leases = Leases(lease)
        self.metrics = Metrics()
        self._ends: dict[int, threading.Event] = {}
        stores = {
            queue.name: Store(describe(rig.link, queue.name), queue.columns, keep_attempts=queue.keep_attempts)
            for queue in queues
        }
        meter = Meter(self.metrics, list(stores))
        self.completer = Completer(
            Link(rig.dsn, "complete"), meter, stores, self.leases, self._entered, self._eased, self._recorded
        )
        self.claimer = Claimer(
            Link(rig.dsn, "claim"), meter, [(queue, stores[queue.name]) for queue in queues], self.leases, self.pool,
            self.completer, worker="engine", poll_seconds=poll,
        )  # fmt: skip

    def _entered(self, queue: str) -> None:
        self.claimer.notify(queue)

    def _recorded(self, queue: str) -> None:
        self.claimer.freed(queue)

    def _eased(self) -> None:
        self.claimer.capacity.eased()

    def _run(self, job: LeasedJob) -> None:
        end = self._ends.setdefault(id(job), threading.Event())
        self.begun.append(job)
        end.wait()
        self.claimer.capacity.ended(job.queue)

    def turn(self, times: int = 1) -> list[LeasedJob]:
        """Turn the claimer; returns the jobs begun by that, in order."""
        before = len(self.begun)
        in_flight = self.pool.in_flight
        for _ in range(times):
            self.claimer.turn()
        eventually(lambda: len(self.begun) - before >= self.pool.in_flight - in_flight, interval=0.001)
        return self.begun[before:]

    def end(self, *jobs: LeasedJob, verb: Verb = "complete", error: str | None = None, delay: float = 0.0) -> None:
        """Let the threads of these jobs go, and give their outcomes to the completer."""
        running = self.pool.in_flight
        for job in jobs:
            self.completer.submit(Outcome(job, verb, error, delay))
            self._ends[id(job)].set()
        eventually(lambda: self.pool.in_flight <= running - len(jobs), interval=0.001)

    def end_all(self, verb: Verb = "complete") -> None:
        """End everything that is running, and record it."""
        self.end(*(job for job in self.begun if not self._ends[id(job)].is_set()), verb=verb)
        self.completer.turn()

    def work_off(self) -> list[LeasedJob]:
        """Claim and complete until there is nothing left; returns the jobs in the order in which they began."""
        before = len(self.begun)
        while self.turn(3):
            self.end_all()
        return self.begun[before:]

    def close(self) -> None:
        for end in self._ends.values():
            end.set()
        self.pool.close()
        self.claimer.link.close()
        self.completer.link.close()


class _closing:  # noqa: N801 - reads as contextlib.closing, for a Link
    def __init__(self, link: Link) -> None:
        self.link = link

    def __enter__(self) -> Link:
        return self.link

    def __exit__(self, *_: object) -> None:
        self.link.close()
