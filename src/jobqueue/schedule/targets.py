"""Whom a schedule may post to: the backend, and the targets of a file of schedules. Secrets stay in the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobqueue.errors import ConfigurationError
from jobqueue.settings.environment_values import base_url
from jobqueue.settings.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobqueue.settings import Settings

POST: Final = "post"
"""The kind of job that posts to a target."""

BACKEND: Final = "backend"
"""The target that BACKEND_URL and WORKER_API_KEY make."""

_PLACE: Final = "{secret}"
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_HEADER: Final = re.compile(r"([A-Za-z0-9-]{1,64}):[ ]?([\x20-\x7e]{1,500})")
_KEYS: Final = frozenset({"base_url", "base_url_variable", "header", "secret_variable"})


@dataclass(frozen=True, slots=True)
class TargetEntry:
    """A target as a file has it. Names the variables; never holds the secret."""

    name: str
    base_url: str | None
    base_url_variable: str | None
    header: tuple[str, str] | None
    secret_variable: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """A target that can be called. `header` is the name and the value of the header that each call carries."""

    name: str
    base_url: str
    header: tuple[str, str] | None = field(repr=False)
    secret: Secret | None = None
    secret_variable: str | None = None


def read_target(name: str, table: Mapping[str, Any]) -> TargetEntry:
    """Read one table of a file. Raises ValueError, whose message is a phrase that follows the target's name."""
    if name == BACKEND:
        raise ValueError("cannot be set here: BACKEND_URL and WORKER_API_KEY make it")
    if unknown := sorted(table.keys() - _KEYS):
        raise ValueError(f"has {unknown[0]!r}, which is none of {', '.join(sorted(_KEYS))}")
    for key, value in table.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{key} must be text between quotation marks")
    if ("base_url" in table) == ("base_url_variable" in table):
        raise ValueError("needs either base_url or base_url_variable")
    for key in ("base_url_variable", "secret_variable"):
        if key in table and not _VARIABLE.fullmatch(table[key]):
            raise ValueError(f"{key} must be the name of an environment variable, in capitals")
    base = table.get("base_url")
    if base is not None:
        base = _check_base("base_url", base)
    header = None
    if "header" in table:
        found = _HEADER.fullmatch(table["header"])
        if found is None:
            raise ValueError('header must be a name and a value, such as "Authorization: Bearer {secret}"')
        header = (found[1], found[2])
    if (header is not None and _PLACE in header[1]) != ("secret_variable" in table):
        raise ValueError("needs both a header with {secret} in its value and secret_variable, or neither")
    return TargetEntry(name, base, table.get("base_url_variable"), header, table.get("secret_variable"))


def secrets_of(targets: Mapping[str, Target]) -> list[str]:
    """The secrets of targets, which no output may hold."""
    return [value for target in targets.values() if target.secret for value in target.secret.accepted]


def open_targets(settings: Settings, entries: Iterable[TargetEntry], environ: Mapping[str, str]) -> dict[str, Target]:
    """The targets that can be called with the variables in `environ`: the backend when it is set, and all of `entries`.

    A variable may also be a file in CREDENTIALS_DIRECTORY. Raises ConfigurationError that lists what is missing.
    """
    targets = {}
    if settings.backend_url is not None and settings.worker_api_key is not None:
        header = ("Authorization", f"users API-Key {settings.worker_api_key.first}")
        targets[BACKEND] = Target(BACKEND, settings.backend_url, header, settings.worker_api_key, "WORKER_API_KEY")
    problems: list[str] = []
    for entry in entries:
        try:
            targets[entry.name] = _open(entry, environ)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ConfigurationError(problems)
    return targets


def _open(entry: TargetEntry, environ: Mapping[str, str]) -> Target:
    base, header, secret = entry.base_url, entry.header, None
    if base is None:
        assert entry.base_url_variable is not None
        found = _require(entry, entry.base_url_variable, "https://service.example.com", environ)
        base = _check_base(entry.base_url_variable, found)
    if entry.secret_variable is not None:
        found = _require(entry, entry.secret_variable, "a-long-random-text", environ)
        try:
            secret = Secret.read(found)
        except ValueError as error:
            raise ValueError(f"{entry.secret_variable} {error}; for example a-long-random-text") from None
        assert header is not None
        header = (header[0], header[1].replace(_PLACE, secret.first))
    return Target(entry.name, base, header, secret, entry.secret_variable)


def _require(entry: TargetEntry, variable: str, example: str, environ: Mapping[str, str]) -> str:
    value = environ.get(variable, "").strip() or _credential(variable, environ)
    if not value:
        reason = f"is not set, but the target {entry.name} of SCHEDULES_FILE needs it"
        raise ValueError(f"{variable} {reason}; for example {variable}={example}")
    return value


def _credential(variable: str, environ: Mapping[str, str]) -> str:
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    for name in (variable, variable.lower()) if folder else ():
        path = Path(folder) / name
        if path.is_file():
            return path.read_text(encoding="utf-8").strip()
    return ""


def _check_base(what: str, text: str) -> str:
    try:
        return str(base_url().func(text))  # type: ignore[call-arg] # it takes the value alone
    except ValueError as error:
        raise ValueError(f"{what} {error}; for example https://service.example.com") from None
