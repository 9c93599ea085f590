"""`jobqueue jobs requeue`, `cancel` and `purge`, by id or by filter: they show what they would change, and ask first."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobqueue.cli.command_database import find_queue, open_database
from jobqueue.cli.command_failures import failed, misused
from jobqueue.cli.console import Json, console, jobs_of, note, print_json, say
from jobqueue.cli.jobs_selection import (
    DryRun,
    Error,
    Ids,
    Kind,
    Older,
    QueueName,
    Status,
    Yes,
    must_not_ask,
    read_states,
    select,
)
from jobqueue.cli.jobs_view import job_document, show_jobs, state_text
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobqueue.admin.inspector import Inspector
    from jobqueue.admin.repair import Action, RepairResult
    from jobqueue.admin.selection import Adopted, Selection

_SAMPLES = 5
_EXPLAINED = 20

_WORDS = {"requeue": ("requeue", "requeued"), "cancel": ("cancel", "cancelled"), "purge": ("delete", "deleted")}


@dataclass(frozen=True, slots=True)
class _Request:
    """What somebody typed for one of these commands."""

    action: Action
    queue: str
    ids: list[str]
    status: list[str]
    error: str | None
    older: timedelta | None
    kind: str | None
    everything: bool
    dry_run: bool
    yes: bool
    as_json: bool

    @property
    def filtered(self) -> bool:
        return bool(self.status) or not (self.error is None and self.older is None and self.kind is None)


def requeue(
    queue: QueueName,
    ids: Ids = None,
    status: Status = None,
    error: Error = None,
    older: Older = None,
    kind: Kind = None,
    everything: Annotated[bool, typer.Option("--all", help="Every failed job, or every job in a --status.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Run jobs again: they become pending and due, with all their attempts before them.

    A filter without --status means failed jobs. --status pending makes delayed jobs due. A job that has a pending twin
    (another for the same file, say) ends cancelled instead, because one run does for both.

    Example: jobqueue jobs requeue publish_jobs --error "503" --older 10m --dry-run
    """
    from jobqueue.admin.repair import REQUEUE

    _carry_out(
        _Request(
            REQUEUE, queue, ids or [], status or [], error, older, kind, everything, dry_run, yes, as_json
        )
    )  # fmt: skip


def cancel(
    queue: QueueName,
    ids: Ids = None,
    status: Status = None,
    error: Error = None,
    older: Older = None,
    kind: Kind = None,
    everything: Annotated[bool, typer.Option("--all", help="Every job that is pending or in progress.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Call jobs off. A job in progress loses its lease: its worker stops and can record nothing any more.

    A filter without --status means jobs that are pending or in progress.

    Example: jobqueue jobs cancel jobs --kind report --status pending
    """
    from jobqueue.admin.repair import CANCEL

    _carry_out(_Request(CANCEL, queue, ids or [], status or [], error, older, kind, everything, dry_run, yes, as_json))


def purge(
    queue: QueueName,
    ids: Ids = None,
    older: Older = None,
    status: Status = None,
    error: Error = None,
    kind: Kind = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete finished jobs, by id or older than an age, a thousand rows in a transaction.

    Without --status this means completed and cancelled jobs; failed ones stay unless you name them.

    Example: jobqueue jobs purge publish_jobs --older 90d --status completed
    """
    from jobqueue.admin.repair import PURGE

    if not ids and older is None:
        raise misused("say which jobs: their ids, or --older AGE such as --older 90d")
    _carry_out(_Request(PURGE, queue, ids or [], status or [], error, older, kind, False, dry_run, yes, as_json))


def _carry_out(request: _Request) -> None:
    verb, _ = _WORDS[request.action.name]
    if request.ids and (request.filtered or request.everything):
        raise misused("name jobs by id, or describe them by --status, --error, --older or --kind: not both")
    if not (request.ids or request.filtered or request.everything):
        raise misused("say which jobs: their ids, or --status, --error, --older or --kind, or --all")
    asks = not request.yes and len(set(request.ids)) != 1
    if asks and must_not_ask(dry_run=request.dry_run, yes=request.yes):
        raise misused(f"nobody is there to confirm this: add --yes, or --dry-run to see what it would {verb}")
    with open_database() as connection:
        from jobqueue.admin.audit_trail import audited
        from jobqueue.admin.inspector import Inspector
        from jobqueue.admin.repair import Repair

        queue = find_queue(connection, request.queue)
        selection = _select(queue, request)
        inspector = Inspector(connection, queue)
        if request.dry_run:
            _preview(queue, inspector, selection, request)
            return
        if asks:
            _confirm(queue, inspector, selection, request)
        with audited(connection, request.action.name, queue.name, selection.document()) as entry:

            def progressed(changed: RepairResult) -> None:
                entry.count(changed.number + changed.coalesced)
                on_progress(changed)

            with _progress(request) as on_progress:
                changed = Repair(connection, queue, request.action, selection).run(progressed)
        _report(queue, inspector, selection, request, changed)


def _select(queue: Adopted, request: _Request) -> Selection:
    action = request.action
    meant = action.allowed if request.ids else action.default
    states = read_states(queue, request.status) if request.status else meant
    if refused := [state for state in states if state not in action.allowed]:
        raise misused(f"{action.name} does not take {refused[0]} jobs; it takes {', '.join(action.allowed)}")
    return select(
        queue,
        states,
        ids=request.ids,
        error=request.error,
        kind=request.kind,
        older=request.older,
        delayed_only=action.name == "requeue",
    )


def _preview(queue: Adopted, inspector: Inspector, selection: Selection, request: _Request) -> None:
    count = inspector.count(selection)
    samples = inspector.find(selection, _SAMPLES).jobs
    if request.as_json:
        document = {"matched": count.number, "matched_is_exact": count.exact}
        _print(request, {**document, "samples": [job_document(queue, job) for job in samples]})
        return
    verb, _ = _WORDS[request.action.name]
    say(f"would {verb} {jobs_of(count.number, queue.name, exact=count.exact)}")
    if samples:
        show_jobs(queue, samples)


def _confirm(queue: Adopted, inspector: Inspector, selection: Selection, request: _Request) -> None:
    verb, _ = _WORDS[request.action.name]
    count = inspector.count(selection)
    what = jobs_of(count.number, queue.name, exact=count.exact)
    if count.number and not typer.confirm(printable(f"{verb.capitalize()} {what}?"), err=True):
        raise failed("nothing was changed")


def _report(
    queue: Adopted, inspector: Inspector, selection: Selection, request: _Request, changed: RepairResult
) -> None:
    _, past = _WORDS[request.action.name]
    left = [id_ for id_ in selection.ids if id_ not in set(changed.ids)]
    if request.as_json:
        document: dict[str, Any] = {"changed": changed.number, "coalesced": changed.coalesced}
        document |= {"locked": changed.locked, "more": changed.more, "unchanged_ids": [str(id_) for id_ in left]}
        _print(request, document)
    else:
        say(f"{past} {jobs_of(changed.number, queue.name)}")
    if changed.coalesced:
        note(f"{changed.coalesced:,} had a pending twin already and ended cancelled: one run does for both")
    if changed.locked:
        note(f"{changed.locked:,} were locked by somebody else all the while and are as they were: try again")
    if changed.more:
        note("there are more: run this again")
    for id_ in left[:_EXPLAINED]:
        columns = inspector.show(id_)
        note(f"there is no job {id_} in {queue.name}" if columns is None else _why(queue, id_, columns, request.action))
    if left or changed.locked or changed.more:
        raise typer.Exit(1)


def _why(queue: Adopted, id_: object, columns: dict[str, Any], action: Action) -> str:
    state = queue.state(columns["status"])
    if state == "pending" and action.name == "requeue":
        return f"job {id_} is pending and due already"
    if state == "processing" and action.name == "requeue":
        return f"job {id_} is processing: cancel it first, or let it end"
    if state in action.allowed:
        return f"job {id_} was locked by somebody else: try again"
    return f"job {id_} is {state_text(queue, columns['status'])}: {action.name} takes {', '.join(action.allowed)} jobs"


def _print(request: _Request, document: dict[str, Any]) -> None:
    head = {"schema": "jobqueue.repair/1", "action": request.action.name, "queue": request.queue}
    print_json({**head, "dry_run": request.dry_run, **document})


@contextmanager
def _progress(request: _Request) -> Iterator[Callable[[RepairResult], object]]:
    """Count the changed jobs on standard error, if a person is looking."""
    if not sys.stderr.isatty():
        yield lambda _changed: None
        return
    _, past = _WORDS[request.action.name]
    with console(err=True).status(printable(f"{past} 0")) as status:
        yield lambda changed: status.update(f"{past} {changed.number:,}")
