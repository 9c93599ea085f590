"""The worker: wires the loops to a bounded pool, and stops them in the right order.

A little over 300 lines, and left whole: the order in which everything starts and stops is one story.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from tenacity import Retrying, retry_if_exception

from jobqueue.backoff import RECONNECT
from jobqueue.database_absence import refusal
from jobqueue.errors import ConfigurationError
from jobqueue.kernel.claiming.claimer import Claimer
from jobqueue.kernel.claiming.permits import limits_of, state_limits
from jobqueue.kernel.database.link import LOST, Link, watched
from jobqueue.kernel.database.retries import default_retries
from jobqueue.kernel.database.rows import Retries
from jobqueue.kernel.database.store import Store, describe, hidden_from, list_columns
from jobqueue.kernel.leasing.heartbeat import Heartbeat
from jobqueue.kernel.leasing.leases import Leases
from jobqueue.kernel.leasing.rescuer import Rescuer
from jobqueue.kernel.listener import DirectListenLoop
from jobqueue.kernel.loop import find_failing, find_stuck
from jobqueue.kernel.meter import Meter
from jobqueue.kernel.queue import route_of
from jobqueue.kernel.running.completer import Completer
from jobqueue.kernel.running.context import Context
from jobqueue.kernel.running.loop_context import LoopContext
from jobqueue.kernel.running.loop_thread import THREADS, LoopThread
from jobqueue.kernel.running.overtime import Overtime, whereabouts
from jobqueue.kernel.running.places import Places
from jobqueue.kernel.running.runner import Runner
from jobqueue.kernel.running.thread_pool import Pool
from jobqueue.kernel.running.transactions import Transactions
from jobqueue.kernel.table_check import find_unmet
from jobqueue.observe.logging import get_logger
from jobqueue.observe.metrics import Metrics
from jobqueue.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenacity import RetryCallState

    from jobqueue.kernel.database.statements import Description
    from jobqueue.kernel.job import LeasedJob
    from jobqueue.kernel.loop import Loop
    from jobqueue.kernel.queue import AsyncHandler, Queue
    from jobqueue.kernel.running.outcome import Outcome
    from jobqueue.kernel.worker_options import WorkerOptions

log = get_logger(__name__)

Subject = TypeVar("Subject")
Answer = TypeVar("Answer")

# Seconds that handlers get to notice the end of the drain before the worker releases their jobs.
_NOTICE = 2.0


# Threads that do not come back from their handlers, in a process of no more slots than these, before it is to be replaced.
_MOST_ABANDONED = 8


class Worker:
    """Works on queues until drained. Start it once; it is not reusable.

    `redact` removes secrets from the error messages that are stored. `start` waits for a database that is away; it raises
    psycopg.OperationalError only if `hurry()` ended the wait, or its server does not let us in.

    Raises ConfigurationError when a queue is given twice.
    """

    def __init__(
        self,
        options: WorkerOptions,
        queues: Sequence[Queue],
        *,
        metrics: Metrics | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        names = Counter(queue.name for queue in queues)
        if twice := [name for name, times in names.items() if times > 1]:
            raise ConfigurationError([f"the queue {name} is given twice: one handler takes its jobs" for name in twice])
        # A container's only process has the same pid after every start: the random part tells one life from the next.
        self.name = options.name or f"{socket.gethostname()}:{os.getpid()}-{secrets.token_hex(2)}"
        self.metrics = metrics or Metrics()
        self._options = options
        self._queues = list(queues)
        self._runner = Runner({queue.name: queue for queue in queues}, redact)
        self._leases = Leases(options.lease_seconds)
        self._overtime = Overtime(queues, self._leases)
        self._pool = Pool(options.concurrency, self._run, self._freed, self._broke)
        routes = {queue.name: route for queue in queues if (route := route_of(queue)) is not None}
        self._on_loop = LoopThread(self._run_on_loop, self._wake_claimer, self._broke)
        self._places = Places(self._pool, self._on_loop, routes)
        self._leases.on_lost = self._on_loop.cancel
        self._interrupted = threading.Event()
        self._draining = threading.Event()
        self._hurried = False
        self._stopped = threading.Event()
        self._links: list[Link] = []
        self._stores: dict[str, Store] = {}
        self._loops: list[Loop] = []
        self._transactions = Transactions(
            options.conninfo,
            options.concurrency + (THREADS if routes else 0),
            pooled=options.pooled,
            timeout=options.transaction_seconds,
        )

    # Life

    def start(self) -> None:
        """Start all loops. Waits for the database while it is away.

        Raises ConfigurationError when a queue's table was never adopted (UnknownQueue where that is all), lacks columns that the
        queue names, or would show its jobs to no role like ours, psycopg.Error when the database refuses us or `hurry()` ended
        the wait.
        """
        with watched(self._link("start")) as link:
            self._stores = self._open_stores(link)
            for queue in self._queues:
                self._persist(self._state_limits, link, queue)
        sources = [(queue, self._stores[queue.name]) for queue in self._queues]
        self._meter = Meter(self.metrics, [queue.name for queue in self._queues])
        self.metrics.worker_concurrency.set(self._options.concurrency)
        self._transactions.open()
        direct = self._options.direct_conninfo

        self._heartbeat = Heartbeat(
            self._link("heartbeat", direct=direct, timeout=max(2.0, self._options.lease_seconds / 4)),
            self._meter, self._stores, self._leases, self._introduce,
        )  # fmt: skip
        self._completer = Completer(
            self._link("complete"), self._meter, self._stores, self._leases, self._entered, self._eased, self._recorded
        )
        self._claimer = Claimer(
            self._link("claim"), self._meter, sources, self._leases, self._places, self._completer,
            worker=self.name, poll_seconds=self._options.poll_seconds,
        )  # fmt: skip
        self._rescuer = Rescuer(
            self._link("rescue"), self._meter, sources,
            lease_seconds=self._options.lease_seconds, poll_seconds=self._options.poll_seconds,
            notify=self._claimer.notify, lanes=self._claimer.lanes,
            current=lambda: self._heartbeat.current,
        )  # fmt: skip
        self._loops = [self._heartbeat, self._completer, self._rescuer, self._claimer]
        if direct:
            listen_loop = DirectListenLoop(self._link("listen", direct=direct), self._meter)
            listen_loop.listen_with(self._claimer.notify, self._heartbeat.check)
            self._loops.append(listen_loop)
        else:
            self._claimer.listen_with(self._claimer.notify_in_own_thread, self._heartbeat.check)
        for loop in self._loops:
            loop.start()
        threading.Thread(target=self._watch, name="jobqueue-watch", daemon=True).start()
        log.info(
            "worker_started",
            worker=self.name,
            queues=[queue.name for queue in self._queues],
            concurrency=self._options.concurrency,
        )

    def drain(self, timeout: float) -> bool:
        """Stop: claim nothing more, give back jobs that have not begun, let others finish for `timeout` seconds, release the rest.

        Returns whether every job that had begun came to its own end. The heartbeat outlives the last of them.
        """
        self._draining.set()
        log.info("drain_started", in_flight=self._places.in_flight, timeout=timeout)
        self._claimer.close(5.0)
        self._release(self._pool.take_back())
        finished = self._wait_idle(timeout)
        if not finished:
            self._interrupted.set()
            self._places.interrupt()
            finished = self._places.wait_idle(0.2 if self._hurried else _NOTICE)
        self._completer.flush(5.0)
        if not finished:
            abandoned = [job for jobs in self._leases.older_than(-1.0).values() for job in jobs]
            log.warning("jobs_interrupted", jobs=len(abandoned))
            self._release(abandoned)
        others = [loop for loop in self._loops if loop not in (self._completer, self._heartbeat)]
        for loop in (*others, self._completer):
            loop.stop()
        self._completer.join(10.0)
        for loop in others:
            loop.join(1.0)
        self._heartbeat.stop()
        self._heartbeat.join(3.0)
        self._stopped.set()
        self._places.close()
        self._transactions.close()
        log.info("worker_stopped", worker=self.name, finished=finished)
        return finished

    def hurry(self) -> None:
        """End a start or a drain that is under way: it waits no longer for the database, or for jobs.

        May be called from a signal handler: it takes no lock.
        """
        self._hurried = True

    def run_once(
        self, timeout: float | None = None, *, stop: Callable[[], bool] = lambda: False, drain_seconds: float = 30.0
    ) -> bool:
        """Start, work until nothing is due or `stop()` says so, and drain; returns what `drain` returns.

        Raises TimeoutError after `timeout` seconds, and as `start` does.
        """
        self.start()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not self.idle:
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError("there is still work that is due")
                time.sleep(0.02)
                if self._hurried or stop():
                    break
        finally:
            finished = self.drain(drain_seconds)
        return finished

    @property
    def idle(self) -> bool:
        """Whether nothing is due and nothing is in flight."""
        return (
            self._claimer.idle and not self._places.in_flight and not self._completer.unrecorded and self._claimer.idle
        )

    @property
    def started(self) -> bool:
        """Whether the loops have been started: before that the worker may wait for the database."""
        return bool(self._loops)

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    @property
    def paused(self) -> list[str]:
        """The queues that are paused, as far as this process knows."""
        return self._claimer.paused if self.started else []

    def stuck(self) -> str | None:
        """Why this process makes no progress, or None. The database's absence is no reason: it comes back."""
        return find_stuck(self._loops) or self._pool.stuck() or self._crowded()

    @property
    def stuck_handlers(self) -> dict[str, int]:
        """How many handlers have not come back long after their queue's timeout, by queue."""
        return {queue: count for queue, count in self._overtime.stuck().items() if count}

    def _crowded(self) -> str | None:
        """Why this process should be replaced: each handler that does not come back keeps a thread, and what that holds."""
        abandoned, most = self._pool.abandoned, max(_MOST_ABANDONED, self._options.concurrency)
        if abandoned < most:
            return None
        return f"{abandoned} handlers have not come back after their timeout: a process is replaced at {most}"

    def failing(self) -> str | None:
        """Which loop has failed at every turn for a minute, and why; None when all get on."""
        return find_failing(self._loops)

    # Parts

    def _link(self, name: str, *, direct: str | None = None, timeout: float = 30.0) -> Link:
        """A link to where jobs are, or to `direct`, which leads past a pooler."""
        prepare = direct is not None or not self._options.pooled
        link = Link(direct or self._options.conninfo, name, prepare=prepare, by_index=True, timeout=timeout)
        self._links.append(link)
        return link

    def _open_stores(self, link: Link) -> dict[str, Store]:
        stores: dict[str, Store] = {}
        refused: list[ConfigurationError] = []
        for queue in self._queues:
            try:
                description = self._persist(describe, link, queue.name)
                found = self._persist(list_columns, link, description)
                hidden = self._persist(hidden_from, link, description) if found else None
                if unmet := find_unmet(queue, description, found, hidden):
                    raise ConfigurationError(unmet)
                retries = self._retries(link, queue, description)
            except ConfigurationError as error:
                refused.append(error)
            else:
                stores[queue.name] = Store(
                    description, queue.columns, keep_attempts=queue.keep_attempts, worker=self.name, retries=retries
                )
        if len(refused) == 1:
            raise refused[0]
        if refused:
            raise ConfigurationError([problem for error in refused for problem in error.problems])
        return stores

    def _retries(self, link: Link, queue: Queue, description: Description) -> Retries | None:
        if queue.retries is None:
            return None
        default = self._persist(default_retries, link, description)
        if default is None:
            raise ConfigurationError(
                [
                    (
                        f"the queue {queue.name} says how many retries a job has that does not, and its table"
                        f" {description.table} has no number as the default of max_retries to tell those by"
                    )
                ]
            )
        return Retries(default, queue.retries)

    def _state_limits(self, link: Link, queue: Queue) -> None:
        if others := state_limits(link, queue.name, self.name, limits_of(queue)):
            log.warning("limits_differ", queue=queue.name, workers=others)

    def _persist(self, ask: Callable[[Link, Subject], Answer], link: Link, subject: Subject) -> Answer:
        """What the database answers, which is waited for while it is away."""

        def rest(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until and not self._hurried:
                time.sleep(0.05)
            if self._hurried:
                raise psycopg.OperationalError("the start was ended while the database was away")

        def warn(state: RetryCallState) -> None:
            if state.outcome is not None:
                log.warning("database_away", loop="start", error=str(state.outcome.exception()).strip())

        return Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, LOST) and refusal(error) is None),
            reraise=True,
            wait=RECONNECT,
            sleep=rest,
            before_sleep=warn,
        )(ask, link, subject)

    def _introduce(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": __version__,
            "queues": [queue.name for queue in self._queues],
            "concurrency": self._options.concurrency,
            "in_flight": self._places.in_flight,
            "draining": self.draining,
        }

    def _run(self, job: LeasedJob) -> None:
        self._overtime.begin(job)
        context = Context(
            job, self._stores[job.queue], self._leases, self._transactions, self._interrupted, self._draining
        )
        self._end(job, self._runner.run(job, context))

    async def _run_on_loop(self, job: LeasedJob, handler: AsyncHandler) -> None:
        context = LoopContext(
            job, self._stores[job.queue], self._leases, self._transactions, self._interrupted, self._draining,
            threads=self._on_loop.threads,
        )  # fmt: skip
        self._end(job, await self._runner.run_on_loop(job, handler, context))

    def _broke(self, job: LeasedJob, error: BaseException) -> None:
        """The job's thread ends with an error of its own. An outcome that is on its way already is the one that counts."""
        self._end(job, self._runner.give_up(job, error))

    def _end(self, job: LeasedJob, outcome: Outcome) -> None:
        if self._overtime.end(job):
            self._submit(job, outcome)

    def _give_up(self, job: LeasedJob, thread: threading.Thread, seconds: float) -> None:
        """End a job whose handler does not come back, and give its slot to another thread."""
        log.error(
            "handler_stuck", queue=job.queue, job_id=str(job.id), attempt=job.attempt, seconds=round(seconds, 1),
            at=whereabouts(thread),
        )  # fmt: skip
        # Not renewed any more, and every checkpoint raises.
        job.lost = True
        self._meter.timed_out(job.queue)
        self._submit(job, self._runner.time_out(job, seconds))
        self._pool.abandon(thread)

    def _submit(self, job: LeasedJob, outcome: Outcome) -> None:
        job.ended = True
        self._completer.submit(outcome)
        self._claimer.capacity.ended(job.queue)

    def _entered(self, queue: str) -> None:
        self._claimer.notify(queue)

    def _wake_claimer(self) -> None:
        self._claimer.wake()

    def _recorded(self, queue: str) -> None:
        self._claimer.freed(queue)

    def _eased(self) -> None:
        self._claimer.capacity.eased()

    def _freed(self) -> None:
        self._claimer.capacity.freed()

    def _release(self, jobs: list[LeasedJob]) -> None:
        """Give jobs back, uncharged, in this thread: they can run elsewhere at once."""
        link = self._link("release", timeout=5.0)
        try:
            for queue, store in self._stores.items():
                mine = [job for job in jobs if job.queue == queue]
                if mine:
                    self._meter.finished(queue, "released", len(store.release(link, mine)))
                    self._leases.drop(mine)
        except LOST as error:
            log.warning("jobs_left_to_their_leases", jobs=len(jobs), error=str(error).strip())
        finally:
            link.close()

    def _wait_idle(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not self._places.wait_idle(0.1):
            if time.monotonic() >= deadline or self._hurried:
                return False
        return True

    def _watch(self) -> None:
        """Cut connections whose statements get no answer in time, so that their loops open others."""
        while not self._stopped.wait(0.5):
            now = time.monotonic()
            self._meter.in_flight(self._claimer.capacity.in_flight)
            for overdue in self._overtime.overdue(now):
                self._give_up(*overdue)
            self._meter.stuck(self._overtime.stuck())
            self._places.look_after()
            guarded: list[Link | Transactions] = [self._transactions, *self._links]
            for connections in guarded:
                if connections.cut_if_stuck(now):
                    log.warning("connection_cut", reason="no answer in time")
