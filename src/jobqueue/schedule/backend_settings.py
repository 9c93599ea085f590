"""What the backend says about schedules: whether its jobs run at all, and at what pace. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

MULTIPLIERS: Final = {"production": 1, "staging": 3, "dev": 6}
"""What the period of a scaled schedule is multiplied by, by the backend's environment."""

_CAREFUL: Final = max(MULTIPLIERS.values())


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """Settings as the backend gave them. `environment` is None where the backend has not chosen one."""

    enable_jobs: bool
    environment: str | None

    @property
    def multiplier(self) -> int | None:
        """What to multiply scaled periods by; None when scaled schedules are off.

        An environment that was not chosen is treated as the one that asks least of the backend.
        """
        if not self.enable_jobs:
            return None
        return _CAREFUL if self.environment is None else MULTIPLIERS[self.environment]

    def document(self) -> dict[str, Any]:
        """The settings as the backend writes them, and as the database keeps them."""
        return {"enableJobs": self.enable_jobs, "schedulerEnvironment": self.environment}


def read_settings(document: object) -> BackendSettings:
    """Read what the backend answered. Raises ValueError, in words that quote nothing of it, when it is not settings."""
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")
    enabled, environment = document.get("enableJobs"), document.get("schedulerEnvironment")
    if not isinstance(enabled, bool):
        raise ValueError("has no enableJobs that is true or false")
    if environment is not None and (not isinstance(environment, str) or environment not in MULTIPLIERS):
        raise ValueError(f"has a schedulerEnvironment that is none of {', '.join(MULTIPLIERS)} or null")
    return BackendSettings(enabled, environment)
