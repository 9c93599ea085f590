"""Listening: a rest ends when there is something to hear or to do, and what ends or goes silent is noticed."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.proxy import Proxy
from tests.support.waiting import eventually

from jobqueue.errors import LeaseLost
from jobqueue.kernel import Queue, listener
from jobqueue.kernel.database.link import LOST, Link
from jobqueue.kernel.listener import DirectListenLoop, Listener
from jobqueue.kernel.meter import Meter
from jobqueue.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Context, Handler, Job, Worker

# A rest is asked to last so long, and has ended early when it took less than half of it.
LONG = 8.0


class Heard:
    """A listener on `link`, and all that it passed on, in order."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.metrics = Metrics()
        self.passed_on: list[tuple[object, ...]] = []
        self.woken = threading.Event()
        self.listener = Listener(
            link,
            Meter(self.metrics, ["jobs"]),
            lambda queue: self.passed_on.append(("due", queue)),
            lambda: self.passed_on.append(("revoked",)),
        )

    @property
    def up(self) -> float | None:
        return self.metrics.registry.get_sample_value("jobqueue_listener_up")

    @property
    def pid(self) -> int:
        return self.link.connection().info.backend_pid

    def begin(self) -> int:
        """Listen, and forget what comes with that; returns the process id of the session."""
        self.listener.listen()
        assert self.passed_on == [("due", None)]
        self.passed_on.clear()
        return self.pid

    def rest(self, seconds: float = LONG) -> float:
        """Rest; returns the seconds that it took."""
        begun = time.monotonic()
        self.listener.rest(seconds, self.woken)
        return time.monotonic() - begun

    def rest_while(self, act: Callable[[], object]) -> float:
        """Rest, and have another thread act as soon as that has begun."""
        with beside(lambda: (eventually(lambda: self.listener._resting, interval=0.001), act())):
            return self.rest()

    def ring(self) -> None:
        self.woken.set()
        self.listener.wake()


@contextmanager
def beside(work: Callable[[], object], threads: int = 1) -> Iterator[None]:
    """Do `work` in other threads meanwhile; raises what they raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
            raise

    crowd = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    try:
        yield
    finally:
        for thread in crowd:
            thread.join(30.0)
    assert not raised
    assert not any(thread.is_alive() for thread in crowd)


@pytest.fixture
def heard(rig: Rig) -> Iterator[Heard]:
    heard = Heard(Link(rig.dsn, "ear"))
    yield heard
    heard.listener.close()
    heard.link.close()


@pytest.fixture
def nervous() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def notify(rig: Rig, *payloads: str) -> None:
    for payload in payloads:
        rig.sql.execute("SELECT pg_notify('jobqueue', %s)", [payload])


def last_query(rig: Rig, pid: int) -> str:
    return str(rig.value("SELECT query FROM pg_stat_activity WHERE pid = %s", pid))


def connected(rig: Rig, part: str) -> list[int]:
    """The server processes of one part of the worker."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    return [row[0] for row in rig.rows(query, f"jobqueue:{part}")]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# What is heard


@pytest.mark.parametrize(
    ("payload", "passed_on"),
    [("due jobs", ("due", "jobs")), ("due a b", ("due", "a b")), ("due Zoë", ("due", "Zoë")), ("revoked jobs", ("revoked",))],
)  # fmt: skip
def test_a_rest_ends_when_a_notification_arrives(
    rig: Rig, heard: Heard, payload: str, passed_on: tuple[object, ...]
) -> None:
    heard.begin()
    assert heard.rest_while(lambda: notify(rig, payload)) < LONG / 2
    heard.listener.listen()
    assert heard.passed_on == [passed_on]
    heard.listener.listen()
    assert heard.passed_on == [passed_on]


def test_one_that_arrived_before_the_rest_ends_it_as_well(rig: Rig, heard: Heard) -> None:
    heard.begin()
    notify(rig, "due jobs")
    assert heard.rest() < LONG / 2
    heard.listener.listen()
    assert heard.passed_on == [("due", "jobs")]


def test_all_are_passed_on_in_order_and_what_is_neither_is_ignored(rig: Rig, heard: Heard) -> None:
    heard.begin()
    notify(rig, "due a", "", "jobs", "dues a", "Due a", " due a", "revoked b", "revokedb", "due c")
    rig.sql.execute("SELECT pg_notify('jobqueue_schedules', 'due d')")

    def rest_and_listen() -> bool:
        heard.rest()
        heard.listener.listen()
        return ("due", "c") in heard.passed_on

    eventually(rest_and_listen)
    assert heard.passed_on == [("due", "a"), ("revoked",), ("due", "c")]


def test_an_insert_and_a_revocation_are_heard(rig: Rig, heard: Heard) -> None:
    heard.begin()
    assert heard.rest_while(rig.insert) < LONG / 2
    heard.listener.listen()
    assert heard.passed_on == [("due", "jobs")]
    rig.claim()
    assert heard.rest_while(lambda: rig.sql.execute("UPDATE jobs SET status = 'cancelled'")) < LONG / 2
    heard.listener.listen()
    assert heard.passed_on == [("due", "jobs"), ("revoked",)]


def hear_during_a_statement(rig: Rig, heard: Heard, payload: str) -> None:
    rig.sql.execute("SELECT pg_advisory_lock(7)")
    pid = heard.pid
    with beside(lambda: heard.link.fetch(b"SELECT pg_advisory_xact_lock(7)")):
        eventually(
            lambda: rig.rows("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'advisory'", pid),
        )
        notify(rig, payload)
        rig.sql.execute("SELECT pg_advisory_unlock(7)")


def test_what_arrived_while_a_statement_ran_is_passed_on_by_the_next_listening(rig: Rig, heard: Heard) -> None:
    heard.begin()
    for queue in ("first", "second"):
        hear_during_a_statement(rig, heard, f"due {queue}")
        assert heard.passed_on == []
        heard.listener.listen()
        assert heard.passed_on == [("due", queue)]
        heard.passed_on.clear()


def test_what_arrived_while_a_statement_ran_ends_the_rest_after_it(rig: Rig, heard: Heard) -> None:
    heard.begin()
    hear_during_a_statement(rig, heard, "due jobs")
    assert heard.rest(1.0) < 0.5


# What wakes


def test_a_rest_lasts_as_long_as_it_is_asked_to(heard: Heard) -> None:
    heard.begin()
    assert heard.rest(0.1) >= 0.1


def test_a_rest_ends_when_it_is_woken(heard: Heard) -> None:
    heard.begin()
    for _ in range(5):
        heard.woken.clear()
        assert heard.rest_while(heard.ring) < LONG / 2
    heard.woken.clear()
    assert heard.rest(0.1) >= 0.1
    heard.listener.listen()
    assert heard.passed_on == []


def test_a_ring_before_the_rest_is_not_lost(heard: Heard) -> None:
    heard.begin()
    with beside(heard.ring):
        pass
    assert heard.rest() < LONG / 2


def test_many_who_ring_at_once_end_one_rest(heard: Heard, nervous: None) -> None:
    heard.begin()
    for _ in range(20):
        heard.woken.clear()
        together = threading.Barrier(12)

        def ring(together: threading.Barrier = together) -> None:
            together.wait(10.0)
            heard.ring()

        with beside(ring, threads=12):
            took = heard.rest()
        assert took < LONG / 2
    # Who rang too late for the last rest ends one more at most.
    heard.woken.clear()
    heard.rest(0.01)
    assert heard.rest(0.1) >= 0.1


def test_a_ring_between_the_last_look_and_the_rest_ends_it(heard: Heard) -> None:
    heard.begin()

    class RungAfterTheLook(threading.Event):
        def is_set(self) -> bool:
            seen = super().is_set()
            if not seen:
                self.set()
                heard.listener.wake()
            return seen

    heard.woken = RungAfterTheLook()
    assert heard.rest() < LONG / 2


def test_a_ring_that_races_with_the_beginning_of_a_rest_ends_it(heard: Heard, nervous: None) -> None:
    heard.begin()
    for _ in range(100):
        heard.woken.clear()
        with beside(heard.ring):
            assert heard.rest() < LONG / 2


def test_a_bell_that_nobody_empties_rings_all_the_same(heard: Heard) -> None:
    heard.begin()
    # As when the one who rests gets no time: far more than a pipe holds.
    heard.listener._resting = True
    for _ in range(80_000):
        heard.listener.wake()
    assert heard.rest() < LONG / 2


def test_before_it_listens_there_is_no_rest_and_nothing_to_ring(heard: Heard) -> None:
    heard.ring()
    heard.woken.clear()
    assert heard.rest() < LONG / 2


# What closes


@pytest.mark.extended
@pytest.mark.slow
def test_who_rings_while_it_closes_writes_nowhere(heard: Heard, nervous: None) -> None:
    """Its descriptors are given to somebody else at once: nothing may be written to them, and none may be left."""
    heard.link.connection()
    before = descriptors()
    newest: list[Listener] = []
    rung = [0] * 4
    numbers = iter(range(len(rung)))
    over = threading.Event()

    def ring() -> None:
        mine = next(numbers)
        while not over.is_set():
            for each in newest[-1:]:
                # As for one who looked just before the rest ended.
                each._resting = True
                each.wake()
            rung[mine] += 1

    def rung_since(then: list[int]) -> bool:
        """Whether all have begun to ring and done so since `then`."""
        return all(now >= earlier + 2 for now, earlier in zip(rung, then, strict=True))

    reused = 0
    with beside(ring, threads=len(rung)):
        try:
            for _ in range(200):
                one = Heard(heard.link).listener
                one.listen()
                newest.append(one)
                one.rest(LONG, heard.woken)
                bell = one._bell
                one.close()
                stranger = os.pipe()
                reused += stranger == bell
                os.set_blocking(stranger[0], False)
                try:
                    one.close()
                    eventually(partial(rung_since, rung.copy()), interval=0.0001)
                    with pytest.raises(BlockingIOError):
                        os.read(stranger[0], 1)
                finally:
                    for descriptor in stranger:
                        os.close(descriptor)
        finally:
            over.set()
    # Unless something else opened files meanwhile, it was the stranger who got the numbers.
    assert reused > 50
    eventually(lambda: descriptors() <= before)


def test_a_loop_that_is_stopped_by_many_leaves_nothing_open(rig: Rig, nervous: None) -> None:
    before = descriptors()
    for _ in range(10):
        ear = DirectListenLoop(Link(rig.dsn, "listen"), Meter(Metrics(), ["jobs"]))
        listening = threading.Event()
        ear.listen_with(lambda _: listening.set(), lambda: None)  # noqa: B023

        def ring(ear: DirectListenLoop = ear) -> None:
            for _ in range(200):
                ear.wake()

        ear.start()
        assert listening.wait(10.0)
        with beside(ring, threads=4):
            ear.stop()
            assert ear.join(LONG / 2)
            ear.wake()
    eventually(lambda: descriptors() <= before)


def test_the_link_outlives_the_listening(heard: Heard) -> None:
    heard.begin()
    assert heard.up == 1
    heard.listener.close()
    assert heard.up == 0
    assert heard.link.fetch(b"SELECT 1") == [(1,)]
    assert heard.link.opened == 1


# What is lost


def test_the_loss_of_the_connection_ends_the_rest_and_all_begins_again(rig: Rig, heard: Heard) -> None:
    numbers = [heard.begin()]
    before = descriptors()
    for _ in range(3):
        pid, begun = heard.pid, time.monotonic()

        def rest_and_listen(pid: int = pid) -> None:
            heard.rest_while(lambda: rig.sql.execute("SELECT pg_terminate_backend(%s)", [pid]))
            # The server says why it leaves before it does: that may be an end of its own.
            while heard.pid == pid:
                heard.listener.listen()
                heard.rest()

        with pytest.raises(LOST):
            rest_and_listen()
        assert time.monotonic() - begun < LONG / 2
        heard.listener.lost()
        assert (heard.up, heard.passed_on) == (0, [])
        numbers.append(heard.begin())
        assert heard.up == 1
        assert heard.pid != pid
        assert heard.rest_while(lambda: notify(rig, "due jobs")) < LONG / 2
        heard.listener.listen()
        assert heard.passed_on == [("due", "jobs")]
        heard.passed_on.clear()
        assert heard.rest_while(heard.ring) < LONG / 2
        heard.woken.clear()
    assert len(set(numbers)) == 4
    eventually(lambda: descriptors() <= before)


def test_a_connection_that_was_replaced_meanwhile_is_not_rested_on(rig: Rig, heard: Heard) -> None:
    first = heard.begin()
    heard.link.close()
    heard.link.fetch(b"SELECT 1")
    assert heard.rest() < LONG / 2
    assert heard.begin() != first
    assert heard.rest_while(lambda: notify(rig, "due jobs")) < LONG / 2


def test_without_a_session_of_its_own_it_is_deaf(rig: Rig) -> None:
    heard = Heard(Link(rig.dsn, "deaf", prepare=False))
    heard.listener.listen()
    assert heard.passed_on == [("due", None)]
    assert heard.up == 0
    assert heard.rest_while(heard.ring) < LONG / 2
    heard.listener.close()
    heard.link.close()


# What is silent


def test_after_a_long_silence_the_server_is_asked_for_a_sign_of_life(
    rig: Rig, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_SILENCE", 0.5)
    heard.begin()
    before = last_query(rig, heard.pid)
    assert before != "SELECT 1"
    # A rest that somebody ends, and one that is short enough anyway, ask for nothing.
    heard.ring()
    heard.rest(60.0)
    heard.woken.clear()
    heard.rest(0.01)
    notify(rig, "due jobs")
    heard.rest(60.0)
    heard.listener.listen()
    assert last_query(rig, heard.pid) == before
    assert heard.rest(60.0) < LONG / 2
    assert last_query(rig, heard.pid) == "SELECT 1"


def test_a_server_that_gives_none_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_SILENCE", 0.05)
    with Proxy(rig.dsn) as proxy:
        heard = Heard(Link(proxy.dsn, "ear", timeout=0.1))
        first = heard.begin()
        proxy.silence()
        with beside(lambda: eventually(lambda: heard.link.cut_if_stuck(time.monotonic()))), pytest.raises(LOST):
            heard.rest(60.0)
        proxy.speak()
        assert heard.begin() != first
        heard.listener.close()
        heard.link.close()


@pytest.fixture
def ear(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[DirectListenLoop]:
    """A loop that does nothing but listen, and soon takes silence for too long."""
    monkeypatch.setattr(listener, "_SILENCE", 0.05)
    ear = DirectListenLoop(Link(rig.dsn, "listen"), Meter(Metrics(), ["jobs"]))
    ear.listen_with(lambda _: None, lambda: None)
    ear.start()
    yield ear
    ear.stop()
    assert ear.join(LONG)


def test_a_loop_that_only_listens_asks_as_well(rig: Rig, ear: DirectListenLoop) -> None:
    [pid] = eventually(lambda: connected(rig, "listen"))
    eventually(lambda: last_query(rig, pid) == "SELECT 1", 1.0)


# The worker


@pytest.fixture(params=[True, False], ids=["direct", "claimer"])
def direct(request: pytest.FixtureRequest) -> bool:
    """Whether a loop of its own listens, past a pooler, or the claimer does."""
    return bool(request.param)


def start(rig: Rig, handler: Handler, *, direct: bool) -> Worker:
    """A worker that has looked around, listens, has nothing to do, and will not look again for a long time."""
    address = rig.dsn if direct else None
    worker = rig.worker(Queue("jobs", handler), poll_seconds=60.0, lease_seconds=60.0, direct_conninfo=address)
    eventually(lambda: worker.idle and worker.metrics.registry.get_sample_value("jobqueue_listener_up") == 1)
    return worker


def test_one_connection_listens_and_an_insert_begins_at_once(rig: Rig, direct: bool) -> None:
    begun: list[int] = []
    worker = start(rig, lambda job, _: begun.append(job.id), direct=direct)
    assert ("listen" in [loop.name for loop in worker._loops]) is direct
    assert len(connected(rig, "listen")) == int(direct)
    holders = "SELECT a.application_name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE l.locktype = 'advisory' AND l.objid < 2147483648"
    eventually(lambda: rig.rows(holders) == [("jobqueue:heartbeat",)])
    for n in range(1, 6):
        rig.insert()
        eventually(lambda: len(begun) == n, 5.0)  # noqa: B023
        eventually(lambda: worker.idle)


def test_a_cancel_reaches_a_running_job_even_while_the_worker_drains(rig: Rig, direct: bool) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def handler(_job: Job, context: Context) -> None:
        begun.set()
        try:
            # Ends with the test in any case.
            eventually(context.checkpoint, 20.0)
        except LeaseLost:
            cancelled.set()
            raise

    worker = start(rig, handler, direct=direct)
    [id_] = rig.insert()
    assert begun.wait(5.0)
    ended: list[bool] = []
    with beside(lambda: ended.append(worker.drain(30.0))):
        eventually(worker._claimer._closed.is_set)
        worker._heartbeat.beat()
        eventually(lambda: rig.rows("SELECT draining, in_flight FROM jobqueue.workers") == [(True, 1)])
        # Nothing but what is heard can tell so soon: leases are renewed long after this.
        rig.sql.execute("UPDATE jobs SET status = 'cancelled' WHERE id = %s", [id_])
        assert cancelled.wait(4.0)
    assert ended == [True]
    assert rig.states() == {"cancelled": 1}


def test_the_ear_outlives_its_connection(rig: Rig) -> None:
    begun: list[int] = []
    start(rig, lambda job, _: begun.append(job.id), direct=True)
    [pid] = connected(rig, "listen")
    rig.sql.execute("SELECT pg_terminate_backend(%s)", [pid])
    eventually(lambda: connected(rig, "listen") != [pid])
    rig.insert()
    eventually(lambda: len(begun) == 1, 5.0)
