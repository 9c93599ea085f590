"""`jobqueue stats`: how the queues are doing, and which workers serve them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from jobqueue.cli.command_database import open_database
from jobqueue.cli.command_failures import explain
from jobqueue.cli.console import Json, at_terminal, note, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.admin.queue_snapshot import Snapshot
    from jobqueue.kernel.database.limited import Connection


def stats(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two looks of --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Show each queue's depth by state, oldest due job, rate and failures, and the workers that are alive.

    Counts stop at 10,000 and then read 10,000+. Completed jobs are counted where that is cheap: in tables of up to about
    100 MiB, and in larger ones that have an index on completed_at (CREATE INDEX CONCURRENTLY ON publish_jobs
    (completed_at) WHERE status = 'completed'); elsewhere the rate is "-", and the workers' /metrics have it.

    Piped, each queue is a line, below a line of headings, and tabs separate the values. With --watch and --json each look is
    one line.

    Example: jobqueue stats --watch
    """
    if not watch:
        with open_database() as connection:
            snapshot = _take(connection)
        _print(snapshot, as_json=as_json)
    elif at_terminal() and not as_json:
        _watch_at_terminal(interval)
    else:
        headings = True
        for each in _looks(interval):
            if isinstance(each, str):
                note(each)
            else:
                _print(each, as_json=as_json, indent=None, headings=headings)
                headings = False


def _take(connection: Connection) -> Snapshot:
    from jobqueue.admin.queue_snapshot import take_snapshot

    return take_snapshot(connection, on_late=lambda queue: note(f"the queue {queue} did not answer in time"))


def _looks(interval: float) -> Iterator[Snapshot | str]:
    """Look forever, `interval` seconds apart; while the database is away, give the reason instead."""
    import psycopg

    first = True
    while True:
        try:
            with open_database() as connection:
                while True:
                    yield _take(connection)
                    first = False
                    time.sleep(interval)
        except psycopg.OperationalError as error:
            if first:
                raise
            stop = explain(error)
            yield stop.lines[0] if stop else ""
            time.sleep(interval)


def _watch_at_terminal(interval: float) -> None:
    from rich.live import Live

    from jobqueue.cli.console import console
    from jobqueue.cli.stats_view import drawn

    snapshot: Snapshot | None = None
    with Live(console=console(), auto_refresh=False) as live:
        for each in _looks(interval):
            trouble = each if isinstance(each, str) else None
            snapshot = snapshot if isinstance(each, str) else each
            if snapshot is not None:
                live.update(drawn(snapshot, trouble=trouble), refresh=True)


def _print(snapshot: Snapshot, *, as_json: bool, indent: int | None = 2, headings: bool = True) -> None:
    from jobqueue.cli.stats_view import document, show

    if as_json:
        print_json(document(snapshot), indent=indent)
    else:
        show(snapshot, headings=headings)
