"""What a queue asks of its table, and the table does not have or does not show."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobqueue.kernel.database.statements import Description
    from jobqueue.kernel.queue import Queue


def find_unmet(queue: Queue, description: Description, found: Mapping[str, str], hidden: str | None) -> list[str]:
    """What of `queue` its table cannot serve, in sentences. `found` are the types of the table's columns by name, `hidden` our
    role where no policy shows it the table's jobs.
    """
    table = f"the table {description.table} of the queue {queue.name}"
    if not found:
        return [f"{table} does not exist any more"]
    if missing := [_named(column, found) for column in queue.columns if column not in found]:
        return [f"{table} has no column {', '.join(missing)}"]
    if hidden is not None:
        # Nothing would fail: there would be no jobs.
        said = f"{table} has row-level security, and no policy shows its jobs to the role {hidden}"
        return [f"{said}: `jobqueue migrate` makes one for jobqueue_worker"]
    return queue.check_types(found) if queue.check_types is not None else []


def _named(column: str, found: Mapping[str, str]) -> str:
    near = get_close_matches(column, found, 1)
    return f"{column!r} (did you mean {near[0]!r}?)" if near else repr(column)
