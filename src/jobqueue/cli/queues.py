"""`jobqueue queues`: which queues there are, and whether anybody may claim from them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from jobqueue.cli.command_database import find_queue, open_database
from jobqueue.cli.command_failures import failed
from jobqueue.cli.console import Json, at_terminal, draw, print_json, print_rows, span, table
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.admin.queue_states import QueueState

app = typer.Typer(no_args_is_help=True, help="Look at queues, pause and resume them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]

# Seconds for which a pause waits for claims that began before it.
_PATIENCE = 30.0


@app.command("list")
def list_queues(as_json: Json = False) -> None:
    """List queues: whether they are paused, and their limits over all processes, as living processes state them.

    Piped, each queue is a line, below a line of headings, and tabs separate the values.

    Example: jobqueue queues list
    """
    from jobqueue.admin.queue_states import list_states

    with open_database() as connection:
        found = list_states(connection)
    if as_json:
        print_json(
            {
                "schema": "jobqueue.queues/1",
                "queues": [
                    {
                        "queue": each.name,
                        "table": each.table,
                        "paused_at": each.paused_at,
                        "global_concurrency": each.global_concurrency,
                        "rate": each.rate,
                        "burst": each.burst,
                    }
                    for each in found
                ],
            }
        )
    elif not at_terminal():
        print_rows(
            ("queue", "table", "state", "paused_at", "global_concurrency", "rate"),
            (
                [
                    each.name, each.table, "paused" if each.paused_at else "active", each.paused_at, each.global_concurrency,
                    each.rate,
                ]
                for each in found
            ),
        )  # fmt: skip
    else:
        _show(found)


@app.command()
def pause(name: Name, as_json: Json = False) -> None:
    """Have no process claim from a queue, on any machine: when this command has returned, not one more job begins.

    Jobs that are in work end as they would have. Inserts go on, and so do the ticks of schedules, whose jobs wait with the
    others; `jobqueue schedules pause` stops those. Workers of a version before 0016 of the migrations do not know of pauses.

    Exit code 1 when a claim that began before it does not end within 30 seconds. The queue is paused all the same.

    Example: jobqueue queues pause webhook_deliveries
    """
    from jobqueue.admin.queue_states import pause as pause_queue
    from jobqueue.admin.queue_states import wait_for_claims

    with open_database() as connection:
        find_queue(connection, name)
        changed = pause_queue(connection, name)
        quiet = wait_for_claims(connection, _PATIENCE)
    _report(name, changed, "is paused" if changed else "was paused already", paused=True, as_json=as_json)
    if not quiet:
        raise failed(f"a claim that began before the pause has not ended: some jobs of {name} may still begin")


@app.command()
def resume(name: Name, as_json: Json = False) -> None:
    """Let processes claim from a queue again: those that wait look at once.

    Example: jobqueue queues resume webhook_deliveries
    """
    from jobqueue.admin.queue_states import resume as resume_queue

    with open_database() as connection:
        find_queue(connection, name)
        changed = resume_queue(connection, name)
    _report(name, changed, "is worked on again" if changed else "was not paused", paused=False, as_json=as_json)


def _report(name: str, changed: bool, said: str, *, paused: bool, as_json: bool) -> None:
    if as_json:
        print_json({"schema": "jobqueue.queue_pause/1", "queue": name, "paused": paused, "changed": changed})
    else:
        typer.echo(f"{printable(name)} {said}")


def _show(found: Sequence[QueueState]) -> None:
    from rich.text import Text

    now = datetime.now(UTC)
    drawn = table("QUEUE", "TABLE", "STATE", ">AT ONCE", ">RATE")
    for each in found:
        state = Text("active", style="green")
        if each.paused_at is not None:
            state = Text(f"paused for {span(max(0.0, (now - each.paused_at).total_seconds()))}", style="yellow")
        at_once = "any" if each.global_concurrency is None else f"{each.global_concurrency:,}"
        drawn.add_row(Text(printable(each.name)), Text(printable(each.table)), state, at_once, each.rate or "any")
    draw(drawn)
