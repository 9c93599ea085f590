"""How an attempt ended, on its way to the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jobqueue.kernel.job import LeasedJob

Verb = Literal["complete", "retry", "fail", "cancel", "snooze", "release", "lost"]


@dataclass(slots=True)
class Outcome:
    """The end of one attempt. `delay` and `seconds` are in seconds, `stages` in seconds by name.

    `recorded` is set when the handler committed it together with its own effects.
    """

    job: LeasedJob
    verb: Verb
    error: str | None = None
    delay: float = 0.0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    recorded: bool = False
