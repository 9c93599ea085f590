"""Where output goes: tables for a person at a terminal, tab-separated lines for a pipe, JSON with --json.

Standard output carries the answer alone, so that it can be piped; standard error carries everything about it.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobqueue.moments import stamp
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]

_WIDE = 10_000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?:[0-9]{1,6}[smhdw])+")

# json.dumps leaves these as they are, and a terminal obeys them.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")


def at_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def console(*, err: bool = False, width: int | None = None) -> Console:
    """Give a terminal to draw on. It shows colour where it can and NO_COLOR is not set."""
    from rich.console import Console

    return Console(stderr=err, highlight=False, width=width)


def table(*headings: str) -> Table:
    """Make an empty table. A heading that starts with '>' has numbers below it, one with '!' text that may wrap."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for heading in headings:
        kind, text = (heading[0], heading[1:]) if heading[:1] in (">", "!") else ("", heading)
        made.add_column(
            text,
            justify="right" if kind == ">" else "left",
            vertical="top",
            no_wrap=kind != "!",
            overflow="fold",
            min_width=12 if kind == "!" else None,
        )
    return made


def draw(drawn: Table) -> None:
    """Print a table without cutting any cell: on a terminal that is too narrow the lines run on instead."""
    from rich.measure import Measurement

    # A console measures a table within its own width: only a wide one tells what the table needs. To it, a column whose lines
    # may not wrap still needs no more than its longest word.
    wide = console(width=_WIDE)
    for column in drawn.columns:
        if column.no_wrap:
            cells = [column.header, *column.cells]
            column.min_width = max(Measurement.get(wide, wide.options, cell).maximum for cell in cells)
    needed = wide.measure(drawn).minimum
    console(width=max(needed, console().width)).print(drawn)


def print_rows(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a line of headings, where there are any, and one line a row. Tabs separate the values; None is an empty value."""
    if headings:
        typer.echo("\t".join(headings))
    for row in rows:
        typer.echo("\t".join(_plain(value) for value in row))


def print_json(document: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Print one JSON document. Times are in UTC as RFC 3339 has them, or `infinity` or `-infinity`; ids are strings."""
    text = json.dumps(document, indent=indent, ensure_ascii=False, default=_as_json)
    typer.echo(_UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def say(text: str) -> None:
    """Say a line of the answer, on standard output."""
    typer.echo(printable(text))


def note(text: str) -> None:
    """Say something about the answer, on standard error."""
    typer.echo(printable(text), err=True)


def span(seconds: float) -> str:
    """Give `seconds` for a person: 42s, 3m, 2h, 5d, rounded down."""
    whole = max(0, int(seconds))
    unit = "d" if whole >= 86_400 else "h" if whole >= 3600 else "m" if whole >= 60 else "s"
    return f"{whole // _UNITS[unit]}{unit}"


def jobs_of(number: int, queue: str, *, exact: bool = True) -> str:
    """Give `1 job of emails`, `12 jobs of emails` or `more than 10,000 jobs of emails`."""
    return f"{'' if exact else 'more than '}{number:,} {'job' if number == 1 else 'jobs'} of {queue}"


def duration(text: str) -> timedelta:
    """Read `90d`, `2h`, `1h30m`. Raises typer.BadParameter."""
    if not _DURATION.fullmatch(text.strip()):
        raise typer.BadParameter("must be a length of time such as 30s, 15m, 2h, 90d or 1w")
    parts = re.findall(r"([0-9]+)([smhdw])", text)
    return timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in parts))


def _plain(value: object) -> str:
    if value is None:
        return ""
    return printable((stamp(value) or "") if isinstance(value, datetime) else str(value))


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | memoryview):
        return f"<{len(value)} bytes>"
    return str(value)
