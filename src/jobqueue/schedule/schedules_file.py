"""Reads schedules and targets from TOML: the packaged defaults, or the file that SCHEDULES_FILE names."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jobqueue.errors import ConfigurationError
from jobqueue.net.target_url import BadPath, check_path
from jobqueue.schedule.intervals import LONGEST, read_length
from jobqueue.schedule.schedule_rules import make_rule
from jobqueue.schedule.targets import BACKEND, POST, TargetEntry, read_target

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

_KEYS: Final = frozenset(
    {
        "cron", "every", "timezone", "scaled", "kind", "payload", "post", "json", "target", "missed", "grace", "catch_up_max",
        "overlap", "jitter", "retries", "enabled",
    }
)  # fmt: skip
_EXAMPLE: Final = 'for example [schedules.nightly] with cron = "0 3 * * *" and kind = "job-retention"'


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEntry:
    """One schedule of a file. Its fields are columns of the table `schedules`."""

    name: str
    cron: str | None = None
    every_seconds: int | None = None
    timezone: str = "UTC"
    scaled: bool = False
    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    missed: str = "once"
    grace_seconds: int = 60
    catch_up: int = 10
    overlap: str = "forbid"
    jitter_seconds: int = 0
    max_retries: int = 5
    enabled: bool = True

    def document(self) -> dict[str, Any]:
        """The entry as the database reads it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SchedulesPlan:
    """A file's schedules, and the targets beside the backend that they post to."""

    entries: tuple[ScheduleEntry, ...]
    targets: tuple[TargetEntry, ...]


def read_plan(path: Path | None, *, max_retries: int = 5) -> SchedulesPlan:
    """Read the file at `path`, or the packaged defaults when it is None. `max_retries` is for entries that name none.

    Raises ConfigurationError with one line per problem.
    """
    if path is None:
        return _parse(packaged("defaults.toml"), "defaults.toml", max_retries)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError([f"SCHEDULES_FILE cannot be read ({reason}); {_EXAMPLE}"]) from None
    return _parse(text, path.name, max_retries)


def packaged(name: str) -> str:
    """The text of a file of this package: `defaults.toml` or `election-data.toml`."""
    return (files("jobqueue.schedule") / name).read_text(encoding="utf-8")


def _parse(text: str, file: str, max_retries: int) -> SchedulesPlan:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"SCHEDULES_FILE {file} is not TOML: {error}; {_EXAMPLE}"]) from None
    problems = [
        f"SCHEDULES_FILE {file} has {key!r}, which is neither schedules, targets nor include_defaults"
        for key in document.keys() - {"include_defaults", "schedules", "targets"}
    ]
    entries: dict[str, ScheduleEntry] = {}
    included = document.get("include_defaults", False)
    if not isinstance(included, bool):
        problems.append(f"SCHEDULES_FILE {file}: include_defaults must be true or false")
    elif included:
        entries = {entry.name: entry for entry in _parse(packaged("defaults.toml"), file, max_retries).entries}
    targets = {}
    for name, table in _tables(document, "targets", file, problems):
        try:
            targets[name] = read_target(name, table)
        except ValueError as error:
            problems.append(f"SCHEDULES_FILE {file}: [targets.{name}] {error}")
    for name, table in _tables(document, "schedules", file, problems):
        try:
            entries[name] = _entry(name, table, {BACKEND, *targets}, max_retries)
        except ValueError as error:
            problems.append(f"SCHEDULES_FILE {file}: [schedules.{name}] {error}")
    if problems:
        raise ConfigurationError([f"{problem}; {_EXAMPLE}" for problem in sorted(problems)])
    return SchedulesPlan(
        tuple(entries[name] for name in sorted(entries)), tuple(targets[name] for name in sorted(targets))
    )


def _tables(
    document: Mapping[str, Any], key: str, file: str, problems: list[str]
) -> list[tuple[str, Mapping[str, Any]]]:
    found = document.get(key, {})
    if not isinstance(found, Mapping):
        problems.append(f"SCHEDULES_FILE {file}: {key} must be tables, one an entry: [{key}.NAME]")
        return []
    tables = []
    for name, table in found.items():
        if not isinstance(table, Mapping):
            problems.append(f"SCHEDULES_FILE {file}: {key}.{name} must be a table: [{key}.{name}]")
        elif not NAME.fullmatch(name):
            problems.append(f"SCHEDULES_FILE {file}: {name!r} must be letters, digits, dots, hyphens or underscores")
        else:
            tables.append((name, table))
    return tables


def _entry(name: str, table: Mapping[str, Any], targets: set[str], max_retries: int) -> ScheduleEntry:
    """Read one table. Raises ValueError, whose message is a phrase that follows the entry's name."""
    if unknown := sorted(table.keys() - _KEYS):
        raise ValueError(f"has {unknown[0]!r}, which is none of {', '.join(sorted(_KEYS))}")
    cron, every = _text(table, "cron"), _length(table, "every", 1)
    timezone = _text(table, "timezone") or "UTC"
    make_rule(cron, every, timezone)
    scaled = _flag(table, "scaled", default=False)
    if scaled and every is None:
        raise ValueError("scaled is for entries with every: a cron expression has no period to multiply")
    kind, payload = _work(table, targets)
    grace = _length(table, "grace", 0)
    catch_up = table.get("catch_up_max", 10)
    retries = table.get("retries", max_retries)
    for key, value, most in (("catch_up_max", catch_up, 1000), ("retries", retries, 1000)):
        if type(value) is not int or not (key == "retries" or value) or not 0 <= value <= most:
            raise ValueError(f"{key} must be a whole number up to {most}")
    return ScheduleEntry(
        name=name,
        cron=cron,
        every_seconds=every,
        timezone=timezone,
        scaled=scaled,
        kind=kind,
        payload=payload,
        missed=_one_of(table, "missed", "once", "skip", "catch_up"),
        grace_seconds=60 if grace is None else grace,
        catch_up=catch_up,
        overlap=_one_of(table, "overlap", "forbid", "allow"),
        jitter_seconds=_length(table, "jitter", 0) or 0,
        max_retries=retries,
        enabled=_flag(table, "enabled", default=True),
    )


def _work(table: Mapping[str, Any], targets: set[str]) -> tuple[str, Mapping[str, Any]]:
    """The kind of work that an entry asks for, and its payload."""
    kind, path = _text(table, "kind"), _text(table, "post")
    if (kind is None) == (path is None):
        raise ValueError("needs either kind or post")
    if path is None:
        assert kind is not None
        if misplaced := sorted(table.keys() & {"json", "target"}):
            raise ValueError(f"has {misplaced[0]}, which goes with post; the work of a kind is told by payload")
        return kind, _mapping(table, "payload")
    if "payload" in table:
        raise ValueError("has payload, which goes with kind; what is posted is told by json")
    target = _text(table, "target") or BACKEND
    if target not in targets:
        raise ValueError(f"names the target {target!r}, which the file does not have: [targets.{target}]")
    try:
        payload: dict[str, Any] = {"target": target, "path": check_path(path)}
    except BadPath as error:
        raise ValueError(f"post {error}") from None
    if "json" in table:
        payload["json"] = _mapping(table, "json")
    return POST, payload


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ValueError(f"{key} must be text between quotation marks")
    return value.strip() if isinstance(value, str) else None


def _flag(table: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false")
    return value


def _one_of(table: Mapping[str, Any], key: str, *words: str) -> str:
    value = table.get(key, words[0])
    if value not in words:
        raise ValueError(f"{key} must be one of {', '.join(words)}")
    return str(value)


def _length(table: Mapping[str, Any], key: str, least: int) -> int | None:
    """A length of time in seconds; None when the table has none."""
    text = _text(table, key)
    if text is None:
        return None
    try:
        seconds = read_length(text)
    except ValueError as error:
        raise ValueError(f"{key} {error}") from None
    if not least <= seconds <= LONGEST:
        raise ValueError(f"{key} must be from {least}s to 366d")
    return seconds


def _mapping(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} must be a table: {key} = {{ ... }}")
    try:
        json.dumps(value)
    except TypeError:
        raise ValueError(f"{key} must hold what JSON can: a date goes between quotation marks") from None
    return value
