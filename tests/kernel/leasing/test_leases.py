"""Leases: whose word counts, and when a holder must stop although nobody has said so."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from tests.support.waiting import eventually

from jobqueue.errors import Interrupted, LeaseLost
from jobqueue.kernel.job import LeasedJob
from jobqueue.kernel.leasing.leases import Leases


def job(id_: int = 1, *, renewed_ago: float = 0.0, queue: str = "jobs") -> LeasedJob:
    return LeasedJob(queue, id_, 5, 0, 5, 0.0, {}, uuid4(), 1, 0, time.monotonic() - renewed_ago)


def held(*jobs: LeasedJob, lease: float = 60.0) -> Leases:
    leases = Leases(lease)
    leases.hold(jobs)
    return leases


def guard(leases: Leases, one: LeasedJob, interrupted: threading.Event | None = None) -> float:
    return leases.guard(one, interrupted or threading.Event())


def test_a_fresh_lease_may_be_acted_on() -> None:
    one = job()
    assert guard(held(one), one) == 0.0


def test_a_renewal_that_leaves_a_job_out_loses_it() -> None:
    one, two = job(1), job(2)
    leases = held(one, two)
    assert leases.renewed([one, two], {1: True}, time.monotonic()) == [two]
    guard(leases, one)
    with pytest.raises(LeaseLost):
        guard(leases, two)


def test_a_job_that_was_lost_is_not_asked_about_again() -> None:
    one = job(renewed_ago=30)
    leases = held(one)
    leases.renewed([one], {}, time.monotonic())
    assert leases.older_than(0.0) == {}


def test_a_row_that_somebody_has_locked_is_still_held_but_its_time_runs_on() -> None:
    one = job(renewed_ago=44)
    leases = held(one)
    assert leases.renewed([one], {1: False}, time.monotonic()) == []
    assert not one.lost
    assert leases.older_than(40.0) == {"jobs": [one]}


def test_a_renewal_counts_from_when_it_was_sent() -> None:
    one = job(renewed_ago=59)
    leases = held(one)
    assert not leases.is_fresh(one)
    leases.renewed([one], {1: True}, time.monotonic() - 44)
    assert leases.is_fresh(one)
    leases.renewed([one], {1: True}, time.monotonic() - 46)
    assert not leases.is_fresh(one)


@pytest.mark.parametrize("answer", ["renewed", "lost", "interrupted"])
def test_a_holder_without_news_waits_for_it(answer: str) -> None:
    one = job(renewed_ago=46)
    leases, interrupted, outcome = held(one), threading.Event(), []

    def act() -> None:
        try:
            leases.guard(one, interrupted)
        except (LeaseLost, Interrupted) as error:
            outcome.append(type(error).__name__)
        else:
            outcome.append("acts")

    thread = threading.Thread(target=act)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    if answer == "interrupted":
        interrupted.set()
    else:
        leases.renewed([one], {1: True} if answer == "renewed" else {}, time.monotonic())
    thread.join(5.0)
    assert outcome == [{"renewed": "acts", "lost": "LeaseLost", "interrupted": "Interrupted"}[answer]]


def test_a_holder_is_told_how_long_it_waited() -> None:
    one = job(renewed_ago=46)
    leases = held(one)
    answer = threading.Timer(0.3, lambda: leases.renewed([one], {1: True}, time.monotonic()))
    answer.start()
    began = time.monotonic()
    assert 0.2 < guard(leases, one) <= time.monotonic() - began
    answer.join()


def test_claiming_a_job_again_in_the_same_process_takes_it_from_its_earlier_holder() -> None:
    earlier, later = job(), job()
    leases = held(earlier)
    leases.hold([later])
    assert earlier.lost
    assert not later.lost
    leases.drop([earlier])
    assert len(leases) == 1
    leases.drop([later])
    assert len(leases) == 0


def test_equal_ids_of_two_queues_are_two_jobs() -> None:
    one, other = job(queue="jobs"), job(queue="publish_jobs")
    leases = held(one, other)
    assert len(leases) == 2
    assert leases.renewed([one], {}, time.monotonic()) == [one]
    guard(leases, other)


def test_holding_and_asking_from_many_threads_at_once() -> None:
    leases, failures, stop = Leases(60.0), list[BaseException](), threading.Event()

    def churn(start: int) -> None:
        try:
            for n in range(start, start + 2_000):
                one = job(n)
                leases.hold([one])
                leases.drop([one])
        except BaseException as error:
            failures.append(error)
            raise

    def ask() -> None:
        while not stop.is_set():
            _: Any = leases.older_than(0.0)

    threads = [threading.Thread(target=churn, args=(n * 10_000,)) for n in range(3)]
    asking = threading.Thread(target=ask)
    for thread in [*threads, asking]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    asking.join()
    assert not failures
    assert eventually(lambda: len(leases) == 0)
