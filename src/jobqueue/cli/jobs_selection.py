"""Reads the words of the command line: states, ids and filters of one queue."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from jobqueue.cli.command_failures import misused
from jobqueue.cli.console import duration
from jobqueue.cli.name_completion import kind_names, queue_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.admin.selection import Adopted, Selection

QueueName = Annotated[
    str,
    typer.Argument(metavar="QUEUE", help="The queue's name, as `jobqueue stats` shows it.", autocompletion=queue_names),
]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="The jobs, by id.", show_default=False)]
Status = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        "-s",
        help="Only jobs in this state: pending, processing, completed, failed, cancelled, or the queue's own word for "
        "one. May be given more than once.",
    ),
]
Error = Annotated[str | None, typer.Option("--error", "-e", help="Only jobs whose error message holds this text.")]
Older = Annotated[
    timedelta | None,
    typer.Option(
        "--older",
        "-o",
        parser=duration,
        metavar="AGE",
        help="Only jobs that finished, or were created if they have not finished, longer ago than this: 30s, 2h, 90d.",
    ),
]
Kind = Annotated[
    str | None,
    typer.Option("--kind", "-k", help="Only jobs of this kind, where the queue has kinds.", autocompletion=kind_names),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Change nothing; show how many jobs it would be, and some.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_BIGINT = re.compile(r"-?[0-9]{1,19}")


def select(
    queue: Adopted,
    states: tuple[str, ...],
    *,
    ids: Iterable[str] = (),
    error: str | None = None,
    kind: str | None = None,
    older: timedelta | None = None,
    delayed_only: bool = False,
) -> Selection:
    """Select the jobs of `queue` in any of `states` that fit all filters. Raises Stop when the queue lacks what a filter needs."""
    from jobqueue.admin.selection import Selection

    if kind is not None and not queue.has_kind:
        raise misused(f"the queue {queue.name} has no kinds: its table has no column `kind`")
    return Selection(
        states,
        ids=read_ids(queue, ids),
        # Every message holds the empty text: a script that passes one has an unset variable.
        error=_given("--error", error),
        kind=_given("--kind", kind),
        older=older,
        delayed_only=delayed_only,
    )


def read_states(queue: Adopted, words: Iterable[str]) -> tuple[str, ...]:
    """Give the states that `words` stand for, the queue's own words first, in any case. Raises Stop for an unknown one."""
    from jobqueue.kernel.database.statements import STATES

    own = {queue.word(state).lower(): state for state in STATES}
    found = dict.fromkeys(
        queue.state(word) or own.get(word.lower()) or (word.lower() if word.lower() in STATES else word)
        for given in words
        for word in given.split(",")
    )
    if unknown := [word for word in found if word not in STATES]:
        known = ", ".join(state if queue.word(state) == state else f"{state} ({queue.word(state)})" for state in STATES)
        raise misused(f"the queue {queue.name} has no state {unknown[0]!r}; its states are: {known}")
    return tuple(found)


def read_ids(queue: Adopted, texts: Iterable[str]) -> tuple[Any, ...]:
    """Give the ids as the queue's table has them, each once. Raises Stop with one line for each text that cannot be an id."""
    found: dict[UUID | int, None] = {}
    problems = []
    for text in texts:
        try:
            found[_read_id(queue.description.id_type, text.strip())] = None
        except ValueError:
            wanted = "a whole number" if queue.description.id_type == "bigint" else "a uuid"
            problems.append(f"{text!r} cannot be a job of {queue.name}, whose ids are each {wanted}")
    if problems:
        raise misused(*problems)
    return tuple(found)


def must_not_ask(*, dry_run: bool, yes: bool) -> bool:
    """Whether the command would have to ask and nobody is there to answer."""
    return not (dry_run or yes or sys.stdin.isatty())


def _read_id(id_type: str, text: str) -> UUID | int:
    if id_type == "uuid":
        return UUID(text)
    if not _BIGINT.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError
    return int(text)


def _given(option: str, text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise misused(f"{option} is empty")
    return text
