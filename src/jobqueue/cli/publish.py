"""`jobqueue publish`: attach files and queue them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from jobqueue.cli.command_database import find_queue, open_database, warn_unless_served
from jobqueue.cli.command_failures import misused
from jobqueue.cli.console import Json, at_terminal, console, draw, note, print_json, print_rows, span, table
from jobqueue.cli.jobs_view import COLOURS
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jobqueue.cli.publishing import Publication

_QUEUE = "publish_jobs"


def publish(
    source_keys: Annotated[list[str], typer.Argument(metavar="SOURCE_KEY...", help="Keys of files at the origin.")],
    group: Annotated[UUID | None, typer.Option(help="The asset group that the files belong to.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait until they are published; print their URLs.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that --wait waits at most.")] = 300.0,
    priority: Annotated[int, typer.Option(min=-(2**31), max=2**31 - 1, help="Higher is published first.")] = 5,
    as_json: Json = False,
) -> None:
    """Attach files and queue them; with --wait, print their URLs once they are published.

    A file that is there already (in the same --group, if you give one) is published again and not attached twice.
    With --wait the exit code is 1 unless all are published within the timeout. Piped, each line holds between tabs:
    source key, file id, job id, status, display URL, thumb URL, error message.

    Example: jobqueue publish lots/17/front.jpg lots/17/back.jpg --wait
    """
    keys = list(dict.fromkeys(source_keys))
    _check(keys)
    from jobqueue.cli.publishing import attach, follow
    from jobqueue.settings import load_settings

    settings = load_settings()
    with open_database(settings) as connection:
        queue = find_queue(connection, _QUEUE)
        publications = attach(
            connection, queue, keys, group=group, priority=priority, max_retries=settings.max_retries
        )  # fmt: skip
        if wait:
            warn_unless_served(connection, _QUEUE)
            with _progress(len(publications)) as on_progress:
                follow(connection, queue, publications, timeout=timeout, on_progress=on_progress)
    _print(publications, wait=wait, as_json=as_json)
    if not wait:
        return
    if late := sum(each.open for each in publications):
        note(f"{late} of {len(publications)} not published within {span(timeout)}")
    if any(each.status != "completed" for each in publications):
        raise typer.Exit(1)


def _check(keys: Sequence[str]) -> None:
    from jobqueue.errors import Permanent
    from jobqueue.origin.origin_client import check_source_key

    problems = []
    for key in keys:
        try:
            check_source_key(key)
        except Permanent as problem:
            problems.append(f"{printable(key)[:200]!r}: {problem}")
    if problems:
        raise misused(*problems)


def _print(publications: Sequence[Publication], *, wait: bool, as_json: bool) -> None:
    if as_json:
        print_json({"schema": "jobqueue.publications/1", "files": [_document(each) for each in publications]})
    elif not at_terminal():
        print_rows(
            ("source_key", "file_id", "job_id", "status", "display_url", "thumb_url", "error_message"),
            ((
                each.source_key, each.file_id, each.job_id, each.status, each.display_url, each.thumb_url,
                each.error_message,
            )
            for each in publications),
        )  # fmt: skip
    elif wait:
        _draw_ended(publications)
    else:
        drawn = table("!SOURCE KEY", "FILE", "JOB")
        for each in publications:
            drawn.add_row(printable(each.source_key), str(each.file_id), str(each.job_id))
        draw(drawn)


def _draw_ended(publications: Sequence[Publication]) -> None:
    from rich.text import Text

    screen = console()
    for each in publications:
        said = "published" if each.status == "completed" else each.status
        line = Text.assemble((said, COLOURS.get(each.status, "")), "  ", (printable(each.source_key), "bold"))
        screen.print(line, soft_wrap=True)
        for text in (each.display_url, each.thumb_url) if each.status == "completed" else (each.error_message,):
            if text:
                screen.print(Text(f"  {printable(text)}"), soft_wrap=True)


def _document(each: Publication) -> dict[str, Any]:
    return {
        "source_key": each.source_key,
        "file_id": str(each.file_id),
        "job_id": str(each.job_id),
        "reused": each.reused,
        "coalesced": each.coalesced,
        "status": each.status,
        "display_url": each.display_url,
        "thumb_url": each.thumb_url,
        "error_message": each.error_message,
    }


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar on standard error, if a person is looking."""
    if not sys.stderr.isatty():
        yield lambda _ended: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task("publishing", total=total)
        yield lambda ended: bar.update(task, completed=ended)
