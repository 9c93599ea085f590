"""How jobs look: as a table, as lines and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobqueue.cli.console import at_terminal, draw, print_rows, span, table
from jobqueue.moments import LONG_AGO, NEVER, stamp
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.admin.inspector import EndedAttempt, Listed
    from jobqueue.admin.selection import Adopted

COLOURS = {
    "pending": "yellow",
    "processing": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "bright_black",
}

JOB_FIELDS = (
    "id", "status", "priority", "retry_count", "max_retries", "run_after", "created_at", "started_at", "completed_at", "kind",
    "error_message",
)  # fmt: skip

_ATTEMPT_FIELDS = ("attempt", "number", "outcome", "started_at", "ended_at", "worker", "stages", "error")

OUTCOME_COLOURS = {**COLOURS, "retried": "yellow", "crashed": "red"}


def show_jobs(queue: Adopted, jobs: Sequence[Listed]) -> None:
    """Print jobs, one a line: a table on a terminal, otherwise JOB_FIELDS between tabs."""
    if not at_terminal():
        print_rows(
            JOB_FIELDS,
            ((
                job.id, queue.state(job.status) or job.status, job.priority, job.retry_count, job.max_retries,
                job.run_after, job.created_at, job.started_at, job.completed_at, job.kind, job.error_message,
            )
            for job in jobs),
        )  # fmt: skip
        return
    from rich.text import Text

    now = datetime.now(UTC)
    kinds = ["KIND"] if queue.has_kind else []
    drawn = table("ID", *kinds, "STATUS", ">PRIO", ">TRIES", "WHEN", "!ERROR")
    for job in jobs:
        state = queue.state(job.status) or job.status
        drawn.add_row(
            str(job.id),
            *([Text(printable(job.kind or ""))] if kinds else []),
            Text(state_text(queue, job.status), style=COLOURS.get(state, "")),
            str(job.priority),
            f"{job.retry_count}/{job.max_retries}",
            _when(state, job, now),
            Text(printable(job.error_message or "")),
        )
    draw(drawn)


def job_document(queue: Adopted, job: Listed) -> dict[str, Any]:
    """Give one job of a list for JSON."""
    return {
        "id": str(job.id),
        "status": queue.state(job.status) or job.status,
        "status_word": job.status,
        "kind": job.kind,
        "priority": job.priority,
        "retry_count": job.retry_count,
        "max_retries": job.max_retries,
        "run_after": job.run_after,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "lease_expires_at": job.lease_expires_at,
        "locked_by": job.locked_by,
        "error_message": job.error_message,
    }


def show_columns(queue: Adopted, columns: dict[str, Any]) -> None:
    """Print every column of one job, one a line."""
    if not at_terminal():
        print_rows(
            ("column", "value"), ((name, column_text(value)) for name, value in columns.items() if value is not None)
        )
        return
    from rich.table import Table
    from rich.text import Text

    now = datetime.now(UTC)
    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold", min_width=36)
    for name, value in columns.items():
        if value is None:
            continue
        text = Text(state_text(queue, value) if name == "status" else printable(column_text(value)))
        if name == "status":
            text.stylize(COLOURS.get(queue.state(value) or "", ""))
        if isinstance(value, datetime):
            when = "now" if name == "run_after" and value == LONG_AGO else _relative(value, now)
            text.append(f"  {when}", style="bright_black")
        drawn.add_row(name, text)
    draw(drawn)


def show_attempts(attempts: Sequence[EndedAttempt]) -> None:
    """Print how attempts ended, one a line: a table on a terminal, otherwise `attempt` and the values between tabs."""
    if not attempts:
        return
    if not at_terminal():
        print_rows(
            _ATTEMPT_FIELDS,
            ((
                "attempt", ended.attempt, ended.outcome, ended.started_at, ended.ended_at, ended.worker,
                column_text(ended.stages or {}), ended.error,
            )
            for ended in attempts),
        )  # fmt: skip
        return
    from rich.text import Text

    now = datetime.now(UTC)
    drawn = table(">TRY", "OUTCOME", "ENDED", ">TOOK", "WORKER", "!STAGES", "!ERROR")
    for ended in attempts:
        drawn.add_row(
            str(ended.attempt),
            Text(ended.outcome, style=OUTCOME_COLOURS.get(ended.outcome, "")),
            _relative(ended.ended_at, now),
            _took(ended),
            Text(printable(ended.worker or "")),
            Text(printable(", ".join(f"{name} {took:g} ms" for name, took in (ended.stages or {}).items()))),
            Text(printable(ended.error or "")),
        )
    draw(drawn)


def attempt_document(ended: EndedAttempt) -> dict[str, Any]:
    """Give one attempt for JSON; its stages are in milliseconds."""
    return {
        "attempt": ended.attempt,
        "outcome": ended.outcome,
        "started_at": ended.started_at,
        "ended_at": ended.ended_at,
        "worker": ended.worker,
        "stages": ended.stages or {},
        "error": ended.error,
    }


def state_text(queue: Adopted, word: str) -> str:
    """Give a state for a person, with the queue's own word where it differs."""
    state = queue.state(word)
    return word if state in (None, word) else f"{state} ({word})"


def column_text(value: object) -> str:
    """Give one value of a job as text: times as RFC 3339 has them, documents as JSON."""
    if isinstance(value, datetime):
        return stamp(value) or ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes | memoryview):
        return f"<{len(value)} bytes>"
    return str(value)


def _when(state: str, job: Listed, now: datetime) -> str:
    """Say how long a job has waited, run, or been over."""
    if state == "pending":
        if job.run_after in (NEVER, LONG_AGO):
            return "never" if job.run_after == NEVER else "now"
        if job.run_after > now:
            return f"due in {span((job.run_after - now).total_seconds())}"
        return f"waits {span((now - job.run_after).total_seconds())}"
    if state == "processing" and job.started_at is not None and LONG_AGO < job.started_at < NEVER:
        return f"runs {span((now - job.started_at).total_seconds())}"
    moment = job.completed_at or job.created_at
    return "" if moment is None else _relative(moment, now)


def _relative(moment: datetime, now: datetime) -> str:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if aware in (NEVER, LONG_AGO):
        return "never" if aware == NEVER else "long ago"
    seconds = (now - aware).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def _took(ended: EndedAttempt) -> str:
    if ended.started_at is None:
        return ""
    seconds = (ended.ended_at - ended.started_at).total_seconds()
    return f"{max(0.0, seconds * 1000):.0f} ms" if seconds < 10 else span(seconds)
