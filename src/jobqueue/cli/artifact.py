"""`jobqueue artifact`: request an artifact, the ZIP of a project's media."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobqueue.cli.command_database import find_queue, open_database, warn_unless_served
from jobqueue.cli.command_failures import failed
from jobqueue.cli.console import Json, at_terminal, console, note, print_json, print_rows, span
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobqueue.admin.selection import Adopted
    from jobqueue.kernel.database.limited import Connection

_QUEUE = "download_artifacts"
_LIMIT = 30.0
_GLANCE = 0.25

_REQUEST = b"""
INSERT INTO public.download_artifacts (project_id, type, priority, max_retries)
SELECT id, %(type)s, %(priority)s, %(max_retries)s FROM public.projects WHERE id::text = %(project)s
RETURNING id
"""

# Its columns are the fields of RequestedArtifact, but that `state` is the queue's own word.
_LOOK = b"""
SELECT id, status AS state, error_message, cdn_url, filename, size_bytes, file_count,
       coalesce(jsonb_array_length(manifest -> 'missing'), 0) AS missing,
       phase, coalesce(files_done, 0) AS files_done, files_total, coalesce(bytes_done, 0) AS bytes_done, bytes_total
FROM public.download_artifacts WHERE id = %(id)s
"""


class ArtifactType(StrEnum):
    """The media that go into an artifact."""

    ALL = "ALL"
    PHOTOS_ONLY = "PHOTOS_ONLY"
    VIDEOS_ONLY = "VIDEOS_ONLY"


@dataclass(frozen=True, slots=True)
class RequestedArtifact:
    """A row of download_artifacts as it is now. `state` is the common word, not the queue's own; sizes are in bytes."""

    id: Any
    state: str
    error_message: str | None = None
    cdn_url: str | None = None
    filename: str | None = None
    size_bytes: int | None = None
    file_count: int | None = None
    missing: int = 0
    phase: str | None = None
    files_done: int = 0
    files_total: int | None = None
    bytes_done: int = 0
    bytes_total: int | None = None

    @property
    def open(self) -> bool:
        return self.state in ("pending", "processing")


def artifact(
    project_id: Annotated[str, typer.Argument(metavar="PROJECT_ID", help="The id of a row of projects.")],
    type_: Annotated[
        ArtifactType, typer.Option("--type", "-t", case_sensitive=False, help="The media to put in.")
    ] = ArtifactType.ALL,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is built; print its URL.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that --wait waits at most.")] = 3600.0,
    priority: Annotated[int, typer.Option(min=-(2**31), max=2**31 - 1, help="Higher is built first.")] = 5,
    as_json: Json = False,
) -> None:
    """Request an artifact, the ZIP of a project's media; with --wait, print its URL once it is on the CDN.

    An unchanged project is answered by the ZIP that exists. With --wait the exit code is 1 unless it is ready within
    the timeout. Piped, the line holds between tabs: artifact id, state, URL, size in bytes, files, files left out, error
    message.

    Example: jobqueue artifact 6f1c2b5e-8a1d-4c0e-9b4f-2d7e5a9c1b33 --type PHOTOS_ONLY --wait
    """
    from jobqueue.settings import load_settings

    settings = load_settings()
    with open_database(settings) as connection:
        queue = find_queue(connection, _QUEUE)
        made = RequestedArtifact(_request(connection, project_id, type_, priority, settings.max_retries), "pending")
        if wait:
            warn_unless_served(connection, _QUEUE)
            with _progress() as on_progress:
                made = _follow(connection, queue, made, timeout, on_progress)
    _print(made, as_json=as_json)
    if not wait:
        return
    if made.open:
        note(f"not ready within {span(timeout)}")
    if made.state != "completed":
        raise typer.Exit(1)


def _request(connection: Connection, project_id: str, type_: ArtifactType, priority: int, max_retries: int) -> Any:
    from jobqueue.kernel.database.limited import fetch

    params = {"project": project_id, "type": type_.value, "priority": priority, "max_retries": max_retries}
    rows = fetch(connection, _REQUEST, params, seconds=_LIMIT)
    if not rows:
        raise failed(f"there is no project {printable(project_id)[:100]!r}: give the id of a row of projects")
    return rows[0][0]


def _follow(
    connection: Connection,
    queue: Adopted,
    made: RequestedArtifact,
    timeout: float,
    on_progress: Callable[[RequestedArtifact], object],
) -> RequestedArtifact:
    """Wait until the artifact has ended, or for `timeout` seconds."""
    from jobqueue.kernel.database.limited import fetch_named

    deadline = time.monotonic() + timeout
    while True:
        names, rows = fetch_named(connection, _LOOK, {"id": made.id}, seconds=_LIMIT)
        if not rows:
            raise failed("the artifact or its project was deleted meanwhile")
        found = RequestedArtifact(**dict(zip(names, rows[0], strict=True)))
        made = replace(found, state=queue.state(found.state) or found.state)
        on_progress(made)
        if not made.open or time.monotonic() >= deadline:
            return made
        time.sleep(min(_GLANCE, max(0.0, deadline - time.monotonic())))


def _print(made: RequestedArtifact, *, as_json: bool) -> None:
    if as_json:
        fields = ("state", "error_message", "cdn_url", "filename", "size_bytes", "file_count", "missing")
        document = {"schema": "jobqueue.artifact/1", "id": str(made.id)}
        print_json({**document, **{field: getattr(made, field) for field in fields}})
    elif not at_terminal():
        print_rows(
            ("id", "state", "cdn_url", "size_bytes", "file_count", "missing", "error_message"),
            [(made.id, made.state, made.cdn_url, made.size_bytes, made.file_count, made.missing, made.error_message)],
        )
    else:
        _draw(made)


def _draw(made: RequestedArtifact) -> None:
    from rich.filesize import decimal
    from rich.text import Text

    screen = console()
    if made.state == "completed":
        left_out = f", {made.missing} left out" if made.missing else ""
        screen.print(Text(f"{made.filename}: {made.file_count} files{left_out}, {decimal(made.size_bytes or 0)}"))
        screen.print(Text(printable(made.cdn_url or "")), soft_wrap=True)
    else:
        reason = f": {printable(made.error_message)}" if made.error_message else ""
        screen.print(Text(f"artifact {made.id} {made.state}{reason}"), soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[RequestedArtifact], object]]:
    """Show a bar on standard error, if a person is looking."""
    if not sys.stderr.isatty():
        yield lambda _made: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task("waiting", total=None)
        phase: str | None = None

        def show(made: RequestedArtifact) -> None:
            nonlocal phase
            if made.phase != phase:
                phase = made.phase
                bar.reset(task)
            files = "" if made.files_total is None else f" {made.files_done}/{made.files_total} files"
            bar.update(
                task,
                description=f"{made.phase or 'waiting'}{files}",
                completed=made.bytes_done,
                total=made.bytes_total,
            )

        yield show
