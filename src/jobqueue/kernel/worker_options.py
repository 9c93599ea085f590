"""What a worker can be told."""

from __future__ import annotations

from dataclasses import dataclass

from jobqueue.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works. All times are in seconds.

    `conninfo` may lead to a transaction pooler: `pooled` says so, and `direct_conninfo` leads past it. A handler's
    transaction that has not ended after `transaction_seconds` is cut off. `name` is what `locked_by` shows; no two processes
    may have the same one. By default it is the host's name, the process id and a few random characters.

    Raises ConfigurationError for a number that nothing could be done with.
    """

    conninfo: str
    direct_conninfo: str | None = None
    pooled: bool = False
    concurrency: int = 3
    lease_seconds: float = 60.0
    poll_seconds: float = 15.0
    transaction_seconds: float = 60.0
    name: str = ""

    def __post_init__(self) -> None:
        problems = []
        if self.concurrency < 1:
            problems.append(f"concurrency is {self.concurrency}: at least 1 job must be able to run")
        problems += [
            f"{option} is {getattr(self, option)}: it must be above 0"
            for option in ("lease_seconds", "poll_seconds", "transaction_seconds")
            # Written so that it holds for NaN too.
            if not getattr(self, option) > 0
        ]
        if problems:
            raise ConfigurationError(problems)
