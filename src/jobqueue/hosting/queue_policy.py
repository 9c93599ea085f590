"""A queue's limits as people write them: "10/s", "2m"."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jobqueue.errors import ConfigurationError, in_seconds
from jobqueue.kernel import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LENGTH = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([smhd])", re.ASCII)


def read_policy(queue: str, written: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the kernel's Queue, of what a decorator was given. Raises ConfigurationError with one line per problem."""
    policy, problems = dict(written), list[str]()
    for name, read in {"rate": _rate, "timeout": _seconds}.items():
        try:
            policy[name] = read(policy[name])
        except (ConfigurationError, ValueError, TypeError) as error:
            problems.append(f"the queue {queue} has a {name} that cannot be read: {error}")
    if problems:
        raise ConfigurationError(problems)
    return policy


def _rate(written: object) -> object:
    return Rate.parse(written) if isinstance(written, str) else written


def _seconds(written: Any) -> float | None:
    if written is None:
        return None
    if not isinstance(written, str):
        return in_seconds(written, "it")
    found = _LENGTH.fullmatch(written.strip())
    if found is None:
        raise ValueError(f'{written!r} is no length of time: write it as "30s", "2m" or "1h"')
    return float(found[1]) * _UNITS[found[2]]
