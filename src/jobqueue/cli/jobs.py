"""`jobqueue jobs`: `list`, `show` and `why` stand here, the commands that change jobs in jobs_repair."""

from __future__ import annotations

from typing import Annotated

import typer

from jobqueue.cli import jobs_repair
from jobqueue.cli.command_database import find_queue, open_database
from jobqueue.cli.command_failures import failed
from jobqueue.cli.console import Json, at_terminal, note, print_json, say
from jobqueue.cli.jobs_selection import Error, Kind, Older, QueueName, Status, read_ids, read_states, select
from jobqueue.cli.jobs_view import attempt_document, job_document, show_attempts, show_columns, show_jobs

app = typer.Typer(no_args_is_help=True, help="Look at jobs and repair them, by id or by filter.")


@app.command("list")
def list_jobs(
    queue: QueueName,
    status: Status = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=10_000, help="Show at most this many.")] = 50,
    error: Error = None,
    older: Older = None,
    kind: Kind = None,
    as_json: Json = False,
) -> None:
    """List jobs: in progress, due in the order of their turn, delayed, failed, then otherwise finished.

    Piped, a line of headings comes first, and tabs separate the values. A time of `infinity` is never, and -infinity long ago.

    Example: jobqueue jobs list publish_jobs --status failed --error timeout --older 2h
    """
    with open_database() as connection:
        from jobqueue.admin.inspector import Inspector
        from jobqueue.kernel.database.statements import STATES

        found_queue = find_queue(connection, queue)
        states = read_states(found_queue, status) if status else STATES
        selection = select(found_queue, states, error=error, older=older, kind=kind)
        found = Inspector(connection, found_queue).find(selection, limit)
    if as_json:
        jobs = [job_document(found_queue, job) for job in found.jobs]
        print_json({"schema": "jobqueue.jobs/1", "queue": queue, "whole": found.whole, "jobs": jobs})
        return
    if found.jobs or not at_terminal():
        show_jobs(found_queue, found.jobs)
    if not found.jobs:
        note(f"no such job in {queue}")
    if not found.whole and at_terminal():
        note(f"there are more than these {len(found.jobs)}: narrow them down, or raise --limit")


@app.command("show")
def show_job(
    queue: QueueName, id_: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")], as_json: Json = False
) -> None:
    """Show one job with every column of its table, and how its attempts ended. Exit code 1 when there is no such job.

    Kept are all attempts of publish_jobs, download_artifacts and webhook_deliveries, and those of other queues that did not
    complete. Piped, the lines of attempts have headings of their own, and each begins with the word attempt.

    Example: jobqueue jobs show publish_jobs 0b3f6f0e-5a0c-4a47-9a0e-0d7d7c3a8f11
    """
    with open_database() as connection:
        from jobqueue.admin.inspector import Inspector

        found_queue = find_queue(connection, queue)
        (job_id,) = read_ids(found_queue, [id_])
        inspector = Inspector(connection, found_queue)
        columns = inspector.show(job_id)
        attempts = inspector.attempts(job_id) if columns is not None else []
    if columns is None:
        raise failed(f"there is no job {id_} in {queue}")
    if as_json:
        columns["id"] = str(job_id)
        state = found_queue.state(columns["status"]) or columns["status"]
        ended = [attempt_document(attempt) for attempt in attempts]
        document = {"schema": "jobqueue.job/1", "queue": queue, "id": str(job_id), "status": state}
        print_json({**document, "columns": columns, "attempts": ended})
    else:
        show_columns(found_queue, columns)
        show_attempts(attempts)


@app.command("why")
def why(
    queue: QueueName, id_: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")], as_json: Json = False
) -> None:
    """Say in one sentence what a job waits for, who has it, or how it ended. Exit code 1 when there is no such job.

    Example: jobqueue jobs why publish_jobs 0b3f6f0e-5a0c-4a47-9a0e-0d7d7c3a8f11
    """
    with open_database() as connection:
        from jobqueue.admin.job_reasons import JobReasons

        found_queue = find_queue(connection, queue)
        (job_id,) = read_ids(found_queue, [id_])
        reason = JobReasons(connection, found_queue).explain(job_id)
    if reason is None:
        raise failed(f"there is no job {id_} in {queue}")
    if as_json:
        print_json({"schema": "jobqueue.why/1", "queue": queue, "id": str(job_id), "why": reason})
    else:
        say(reason)


app.command("requeue")(jobs_repair.requeue)
app.command("cancel")(jobs_repair.cancel)
app.command("purge")(jobs_repair.purge)
