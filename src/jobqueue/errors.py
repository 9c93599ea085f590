"""The vocabulary of failure: what a handler may raise and what becomes of its job."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from numbers import Real

Seconds = timedelta | float | int | Decimal
"""A wait: a timedelta, or a number of seconds. Below 0, or not a number, means at once; more than 30 days means 30 days."""


class ConfigurationError(Exception):
    """The environment, or what a program asks for, is unusable. `problems` holds one line per problem; the process exits with code 2."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class JobError(Exception):
    """Base of everything a handler may raise to say how its job ends. To return one counts as to raise it.

    The message becomes the row's `error_message`: a sentence an operator can act on, without secrets.
    """


class Permanent(JobError):
    """No further attempt can help: the job ends `failed` at once."""


class Retry(JobError):
    """This attempt failed; try again after `after` seconds, or after the queue's backoff when it is None.

    Raises TypeError when `after` is no length of time.
    """

    def __init__(self, message: str, after: Seconds | None = None) -> None:
        super().__init__(message)
        self.after = None if after is None else in_seconds(after, "Retry(message, after)")


class Snooze(JobError):
    """Not now: the job goes back to pending for `seconds` and no attempt is charged.

    Raises TypeError when `seconds` is no length of time.
    """

    def __init__(self, message: str, seconds: Seconds) -> None:
        super().__init__(message)
        self.seconds = in_seconds(seconds, "Snooze(message, seconds)")


class Cancelled(JobError):
    """The work is no longer wanted: the job ends `cancelled`."""


class Interrupted(JobError):
    """The worker is shutting down: the job goes back to pending at once and no attempt is charged."""


class TimedOut(JobError):
    """The handler took longer than its queue's timeout: the attempt has failed, or the job where the queue says so."""


class LeaseLost(JobError):
    """Somebody else holds this job now: stop touching the world; nothing this holder does is recorded.

    A handler that raises it while its lease is held after all has failed the attempt.
    """


def in_seconds(wait: Seconds, of: str) -> float:
    """The wait as a number of seconds, perhaps infinite. Raises TypeError in words that begin with `of` when it is none."""
    if isinstance(wait, timedelta):
        return wait.total_seconds()
    if not isinstance(wait, Real | Decimal):
        raise TypeError(f"{of} takes a timedelta or a number of seconds, not {type(wait).__name__}")
    try:
        seconds = float(wait)
    except OverflowError:
        return math.inf if wait > 0 else -math.inf
    return 0.0 if math.isnan(seconds) else seconds
