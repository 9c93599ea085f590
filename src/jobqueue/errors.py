"""The vocabulary of failure: what a handler may raise and what becomes of its job."""

from __future__ import annotations


class ConfigurationError(Exception):
    """The environment is unusable. `problems` holds one line per problem; the process exits with code 2."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class JobError(Exception):
    """Base of everything a handler may raise to say how its job ends.

    The message becomes the row's `error_message`: a sentence an operator can act on, without secrets.
    """


class Permanent(JobError):
    """No further attempt can help: the job ends `failed` at once."""


class Retry(JobError):
    """This attempt failed; try again after `after` seconds, or after the queue's backoff when it is None."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Snooze(JobError):
    """Not now: the job goes back to pending for `seconds` and no attempt is charged."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Cancelled(JobError):
    """The work is no longer wanted: the job ends `cancelled`."""


class Interrupted(JobError):
    """The worker is shutting down: the job goes back to pending at once and no attempt is charged."""


class LeaseLost(JobError):
    """Somebody else holds this job now: stop touching the world; nothing this holder does is recorded."""
