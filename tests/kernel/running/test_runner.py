"""The runner: what each way in which a handler can end means, also when the database was away meanwhile."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest

from jobqueue.errors import Cancelled, Interrupted, LeaseLost, Permanent, Retry, Snooze
from jobqueue.kernel import Backoff, Context, Queue
from jobqueue.kernel.job import LeasedJob
from jobqueue.kernel.leasing.leases import Leases
from jobqueue.kernel.running.runner import Runner

if TYPE_CHECKING:
    from jobqueue.kernel.running.outcome import Outcome

NONE: Any = None


def leased(*, renewed_ago: float = 0.0, retry_count: int = 0) -> LeasedJob:
    return LeasedJob("jobs", 1, 5, retry_count, 5, 0.0, {}, uuid4(), 1, 0, time.monotonic() - renewed_ago)


def context_of(job: LeasedJob, leases: Leases) -> Context:
    return Context(job, NONE, leases, NONE, threading.Event(), threading.Event())


def run(error: BaseException, *, away: float = 0.0, retry_count: int = 0) -> Outcome:
    """What comes of a handler that raises `error` after it waited `away` seconds for the database."""

    def handle(_job: object, context: Context) -> None:
        context.without_database = away
        raise error

    job = leased(retry_count=retry_count)
    # A handler's word alone does not lose a lease.
    job.lost = isinstance(error, LeaseLost)
    queue = Queue("jobs", handle, backoff=Backoff(first=1000.0, jitter=0.5))
    return Runner({"jobs": queue}, lambda text: text.replace("hunter2", "***")).run(job, context_of(job, Leases(60.0)))


@pytest.mark.parametrize("away", [0.0, 60.0])
@pytest.mark.parametrize(
    ("error", "verb"),
    [
        (Permanent("gone"), "fail"),
        (Cancelled("gone"), "cancel"),
        (Snooze("later", 7.0), "snooze"),
        (Interrupted("stopping"), "release"),
        (LeaseLost("lost"), "lost"),
    ],
)
def test_a_verdict_is_the_same_whether_the_database_was_away_or_not(error: Exception, verb: str, away: float) -> None:
    outcome = run(error, away=away)
    assert (outcome.verb, outcome.error) == (verb, str(error))


@pytest.mark.parametrize(("away", "verb"), [(0.0, "retry"), (1.9, "retry"), (2.1, "snooze"), (600.0, "snooze")])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Retry("the origin broke off"), "the origin broke off"),
        (ValueError("odd"), "ValueError: odd"),
        (OSError(), "OSError"),
    ],
)
def test_a_failure_is_charged_unless_the_database_was_away(
    error: Exception, reason: str, away: float, verb: str
) -> None:
    outcome = run(error, away=away, retry_count=4)
    assert outcome.verb == verb
    if verb == "retry":
        assert outcome.error == reason
        assert outcome.delay >= 500.0
    else:
        assert (
            outcome.error == f"the database was away for {away:.1f} s of this attempt, which is not charged: {reason}"
        )
        assert outcome.delay <= 5.0


@pytest.mark.parametrize("away", [0.0, 60.0])
def test_a_wait_that_was_asked_for_is_kept(away: float) -> None:
    assert run(Retry("the target answered 503", 1200.0), away=away).delay == 1200.0


def test_what_is_told_of_an_attempt_holds_no_secret() -> None:
    assert cast("str", run(Retry("no hunter2"), away=60.0).error).endswith("not charged: no ***")


def test_the_waits_of_a_handlers_threads_count_once() -> None:
    job = leased(renewed_ago=50.0)
    leases = Leases(60.0)
    leases.hold([job])
    context = context_of(job, leases)
    threads = [threading.Thread(target=context.checkpoint) for _ in range(8)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    # The length of the wait is what is tested.
    threads[0].join(0.5)
    leases.renewed([job], {1: True}, time.monotonic())
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    assert 0.4 < context.without_database <= took
    context.checkpoint()
    assert context.without_database <= took
