"""How schedules look: a table for a person, lines for a pipe, documents for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobqueue.cli.console import draw, print_rows, span, table
from jobqueue.moments import NEVER, stamp
from jobqueue.observe.printable_text import printable
from jobqueue.schedule.intervals import write_length
from jobqueue.schedule.schedule_rules import upcoming, zone
from jobqueue.schedule.targets import POST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from jobqueue.schedule.backend_settings import BackendSettings
    from jobqueue.schedule.schedule_rules import Rule
    from jobqueue.schedule.schedules_table import Run, Schedule

_FIELDS = (
    "name", "when", "timezone", "state", "kind", "last_tick_at", "next_tick_at", "paused_by", "last_outcomes",
)  # fmt: skip

_SIGNS = {"completed": "ok", "enqueued": "running"}


@dataclass(frozen=True, slots=True)
class Described:
    """A schedule, and how it stands now. `state` is ticking, parked, paused, off, removed, waiting or malformed."""

    schedule: Schedule
    state: str
    words: str
    ticks: Sequence[datetime]
    runs: Sequence[Run]

    @property
    def expression(self) -> str:
        """A cron expression or `every 15m`, as the file has it."""
        if self.schedule.cron is not None:
            return self.schedule.cron
        return "" if self.schedule.every_seconds is None else f"every {write_length(self.schedule.every_seconds)}"

    @property
    def work(self) -> str:
        """The kind; for a call, the target and the path."""
        payload = self.schedule.payload
        # A host may have written any JSON there.
        if self.schedule.kind != POST or not isinstance(payload, dict):
            return self.schedule.kind
        return f"POST {payload.get('target')}\n{payload.get('path')}"

    def local(self, tick: datetime) -> datetime:
        """Give a tick in the schedule's own zone."""
        return tick.astimezone(zone(self.schedule.timezone))

    def document(self) -> dict[str, Any]:
        """For JSON."""
        schedule = self.schedule
        return {
            "name": schedule.name,
            "cron": schedule.cron,
            "every_seconds": schedule.every_seconds,
            "words": self.words,
            "timezone": schedule.timezone,
            "scaled": schedule.scaled,
            "kind": schedule.kind,
            "payload": schedule.payload,
            "missed": schedule.missed,
            "overlap": schedule.overlap,
            "jitter_seconds": schedule.jitter_seconds,
            "source": schedule.source,
            "state": self.state,
            "paused_at": schedule.paused_at,
            "paused_by": schedule.paused_by,
            "last_tick_at": schedule.last_tick_at,
            "next_tick_at": schedule.next_tick_at,
            "next": [{"utc": stamp(tick), "local": self.local(tick).isoformat()} for tick in self.ticks],
            "last_runs": [run.document() for run in self.runs],
        }


def describe(
    schedule: Schedule, settings: BackendSettings | None, now: datetime, number: int, runs: Sequence[Run]
) -> Described:
    """Say how a schedule stands at `now`, with `number` ticks to come."""
    try:
        rule = schedule.rule(settings)
    except ValueError as error:
        return Described(schedule, "malformed", str(error), [], runs)
    state = _state(schedule, rule)
    words = "Off until the backend's settings say how often" if rule is None else rule.words
    ticks = upcoming(rule, now, number) if rule is not None and state == "ticking" else []
    return Described(schedule, state, words, ticks, runs)


def _state(schedule: Schedule, rule: Rule | None) -> str:
    if schedule.removed_at is not None:
        return "removed"
    if not schedule.enabled:
        return "off"
    if schedule.paused_at is not None:
        return "paused"
    if rule is None:
        return "off"
    if schedule.next_tick_at == NEVER:
        return "parked"
    # No running process can do its work, so none has given it a tick.
    return "waiting" if schedule.next_tick_at is None else "ticking"


def show_schedules(described: Sequence[Described]) -> None:
    """Print a table for a person."""
    shown = table("schedule", "!when", "does", "state", "last runs", "next, there", "next, UTC")
    for each in described:
        schedule = each.schedule
        when = f"{each.expression}\n{each.words}" + (f"\n{schedule.timezone}" if schedule.cron is not None else "")
        state = each.state
        if state == "paused":
            state = f"paused\nby {schedule.paused_by or 'somebody'}\n{stamp(schedule.paused_at)}"
        elif state == "waiting":
            state = "waiting for\na process\nthat serves it"
        shown.add_row(
            printable(schedule.name),
            _lines(when),
            _lines(each.work),
            _lines(state),
            _lines("\n".join(_run(run) for run in each.runs)),
            "\n".join(each.local(tick).strftime("%a %d %b %H:%M:%S %Z") for tick in each.ticks),
            "\n".join(tick.strftime("%d %H:%M:%S") for tick in each.ticks),
        )
    draw(shown)


def print_schedules(described: Sequence[Described]) -> None:
    """Print one line a schedule, for a pipe."""
    print_rows(
        _FIELDS,
        (
            (
                each.schedule.name,
                each.expression,
                each.schedule.timezone,
                each.state,
                each.schedule.kind,
                each.schedule.last_tick_at,
                each.schedule.next_tick_at,
                each.schedule.paused_by,
                ",".join(run.state for run in each.runs),
            )
            for each in described
        ),
    )


def _run(run: Run) -> str:
    took = (
        ""
        if run.seconds is None
        else f" in {span(run.seconds)}"
        if run.seconds >= 1
        else f" in {run.seconds * 1000:.0f} ms"
    )
    by = "" if run.called_by is None else f", by {run.called_by}"
    return f"{run.tick.strftime('%d %b %H:%M:%S')} {_SIGNS.get(run.state, run.state)}{took}{by}"


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
