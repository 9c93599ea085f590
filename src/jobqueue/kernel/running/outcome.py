"""How an attempt ended, on its way to the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jobqueue.kernel.job import LeasedJob

Verb = Literal["complete", "retry", "fail", "cancel", "snooze", "release", "lost"]


@dataclass(slots=True)
class Outcome:
    """The end of one attempt: `verb` says what becomes of the job, `delay` in how many seconds it may run again.

    `seconds` is how long the handler took, and `stages` the same by the names of its stages. `recorded`: the handler
    committed the outcome together with its own effects.
    """

    job: LeasedJob
    verb: Verb
    error: str | None = None
    delay: float = 0.0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    recorded: bool = False
