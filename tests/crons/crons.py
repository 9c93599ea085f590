"""Cron expressions in the hands of published libraries, and in ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from jobqueue.schedule.cron_expression import Cron

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROGRAMS: Final = Path(__file__).with_name("programs")

AS_OURS: Final = "same"

_SPRING, _AUTUMN, _PLAIN = "2026-03-08T00:30:00-05:00", "2026-11-01T00:30:00-04:00", "2026-02-01T12:00:00+00:00"
_NEW_YORK: Final = "America/New_York"

# Expression, zone, the moment from which, and what it is there for.
EXPRESSIONS: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("0 0 * * 1", "UTC", _PLAIN, "a weekday by its number"),
    ("0 0 * * 7", "UTC", _PLAIN, "7 for Sunday"),
    ("0 0 * * 5-7", "UTC", _PLAIN, "a range up to 7"),
    ("0 0 * * MON-FRI", "UTC", _PLAIN, "names"),
    ("0 0 13 * 5", "UTC", _PLAIN, "a day of the month and a weekday"),
    ("0 0 */2 * 1", "UTC", _PLAIN, "the same, where one begins with a star"),
    ("0 0 L * *", "UTC", _PLAIN, "the last day of a month"),
    ("0 0 * * 5L", "UTC", _PLAIN, "the last Friday of a month"),
    ("0 0 * * 5#2", "UTC", _PLAIN, "the second Friday of a month"),
    ("0 0 ? * *", "UTC", _PLAIN, "a question mark"),
    ("5/15 * * * *", "UTC", _PLAIN, "a step from a number"),
    ("0 22-2 * * *", "UTC", _PLAIN, "a range over midnight"),
    ("*/20 * * * * *", "UTC", _PLAIN, "six fields"),
    ("@daily", "UTC", _PLAIN, "a nickname"),
    ("0 0 31 2 *", "UTC", _PLAIN, "a day that never comes"),
    ("30 2 * * *", _NEW_YORK, _SPRING, "a time of day that the clocks skip"),
    ("0 * * * *", _NEW_YORK, _SPRING, "every hour, where the clocks skip one"),
    ("30 1 * * *", _NEW_YORK, _AUTUMN, "a time of day that comes twice"),
    ("*/30 * * * *", _NEW_YORK, _AUTUMN, "every half hour, where an hour comes twice"),
)
_COUNT: Final = 4


@dataclass(frozen=True, slots=True)
class Library:
    """One version of a library."""

    name: str
    version: str
    source: str


LIBRARIES: Final = (
    Library("cronsim", "2.8", "PyPI"),
    Library("croniter", "7.0.0", "PyPI"),
    Library("APScheduler", "3.11.3", "PyPI"),
    Library("cron-parser", "5.10.6", "npm"),
    Library("croner", "11.0.1", "npm"),
)


def install(folder: Path) -> None:
    """Bring all of them into `folder`."""
    packages = [f"{library.name}@{library.version}" for library in LIBRARIES if library.source == "npm"]
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
    subprocess.run(npm, check=True, timeout=300)
    shutil.copy(PROGRAMS / "next.mjs", folder)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
    pinned = [f"{library.name}=={library.version}" for library in LIBRARIES if library.source == "PyPI"]
    subprocess.run([folder / "venv/bin/pip", "install", "--quiet", "tzdata", *pinned], check=True, timeout=300)


def ours(expression: str, zone: str, after: str) -> list[datetime] | None:
    """Our ticks; None where we refuse."""
    try:
        cron = Cron(expression, ZoneInfo(zone))
    except ValueError:
        return None
    found, last = [], datetime.fromisoformat(after).astimezone(UTC)
    for _ in range(_COUNT):
        tick = cron.next(last)
        assert tick is not None
        found.append(tick)
        last = tick
    return found


def theirs(library: Library, folder: Path) -> list[list[datetime] | None]:
    """The library's ticks of each expression; None where it refuses."""
    given = json.dumps([(expression, zone, after, _COUNT) for expression, zone, after, _ in EXPRESSIONS])
    if library.source == "npm":
        command: list[str | Path] = ["node", folder / "next.mjs", library.name]
    else:
        command = [folder / "venv/bin/python", PROGRAMS / "next.py", library.name]
    done = subprocess.run(command, input=given, text=True, capture_output=True, check=True, timeout=120)
    answers = json.loads(done.stdout)
    return [None if ticks is None else [datetime.fromisoformat(tick) for tick in ticks] for ticks in answers]


def rows(found: Iterable[tuple[Library, Sequence[list[datetime] | None]]]) -> str:
    """What differs, as the documentation shows it: a row an expression, a column a library."""
    found = list(found)
    head = " | ".join(f"{library.name} {library.version}" for library, _ in found)
    lines = [f"| expression | | ours | {head} |", "|---|---|---|" + "---|" * len(found)]
    for number, (expression, zone, after, words) in enumerate(EXPRESSIONS):
        mine = ours(expression, zone, after)
        cells = [AS_OURS if ticks[number] == mine else _shown(ticks[number], zone) for _, ticks in found]
        shown = expression.replace("|", "\\|")
        lines.append(f"| `{shown}` | {words} | {_shown(mine, zone)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(ticks: list[datetime] | None, zone: str) -> str:
    if ticks is None:
        return "refused"
    if not ticks:
        return "never"
    walls = [tick.astimezone(ZoneInfo(zone)) for tick in ticks[:3]]
    seconds = any(wall.second for wall in walls)
    return ", ".join(f"{wall:%a %d %b %H:%M}{wall.strftime(':%S') if seconds else ''}" for wall in walls)
