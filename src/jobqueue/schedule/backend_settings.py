"""What the backend says about schedules: whether its jobs run at all, and at what pace. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

MULTIPLIERS: Final = {"production": 1, "staging": 3, "dev": 6}
"""By the backend's environment: what multiplies the period of a scaled schedule."""

_CAREFUL: Final = max(MULTIPLIERS.values())


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """Settings as the backend gave them. `environment` is None where the backend has not chosen one."""

    enable_jobs: bool
    environment: str | None

    @property
    def multiplier(self) -> int | None:
        """The factor of scaled periods; None when scaled schedules are off.

        Where the backend has chosen no environment, it is that of the one that asks least of the backend.
        """
        if not self.enable_jobs:
            return None
        return _CAREFUL if self.environment is None else MULTIPLIERS[self.environment]

    def document(self) -> dict[str, Any]:
        """The settings as the backend writes them, and as the database keeps them."""
        return {"enableJobs": self.enable_jobs, "schedulerEnvironment": self.environment}


def read_settings(document: object) -> BackendSettings:
    """Read what the backend answered. Raises ValueError, whose message quotes nothing of it, when it is not settings."""
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")
    enabled, environment = document.get("enableJobs"), document.get("schedulerEnvironment")
    if not isinstance(enabled, bool):
        raise ValueError("has no enableJobs that is true or false")
    if environment is not None and (not isinstance(environment, str) or environment not in MULTIPLIERS):
        raise ValueError(f"has a schedulerEnvironment that is none of {', '.join(MULTIPLIERS)} or null")
    return BackendSettings(enabled, environment)
