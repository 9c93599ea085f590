"""How a snapshot of the queues looks: as tables, as lines and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.console import Group
from rich.text import Text

from jobqueue.cli.console import at_terminal, draw, print_rows, span, table
from jobqueue.kernel.database.statements import COUNT_CAP
from jobqueue.moments import stamp
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from jobqueue.admin.inspector import Throughput, WorkerRow
    from jobqueue.admin.queue_snapshot import QueueStats, Snapshot

_FIELDS = (
    "queue", "due", "delayed", "processing", "failed", "oldest_due_seconds", "completed_last_hour", "completed_last_5_minutes",
    "completed_last_minute", "failure_share_last_hour", "paused_at",
)  # fmt: skip

_COUNTED = ("due", "delayed", "processing", "failed", "failed_last_hour")


def show(snapshot: Snapshot, *, headings: bool = True) -> None:
    """Print tables on a terminal, otherwise one line a queue, below the headings."""
    if not at_terminal():
        print_rows(_FIELDS if headings else (), (_line(queue) for queue in snapshot.queues))
        return
    draw(_queues(snapshot))
    typer.echo()
    draw(_workers(snapshot) if snapshot.workers else _nobody())
    if snapshot.unserved:
        typer.echo()
        draw(_unserved(snapshot))


def drawn(snapshot: Snapshot, *, trouble: str | None = None) -> RenderableType:
    """The same for a screen that is drawn again and again; `trouble` says why it shows an older snapshot."""
    heading = Text(f"{stamp(snapshot.at)}  Ctrl-C ends", style="bright_black")
    if trouble is not None:
        heading = Text(f"{stamp(snapshot.at)}  {printable(trouble)}", style="bold red")
    below: list[RenderableType] = [Text(), _unserved(snapshot)] if snapshot.unserved else []
    workers = _workers(snapshot) if snapshot.workers else _nobody()
    return Group(heading, Text(), _queues(snapshot), Text(), workers, *below)


def document(snapshot: Snapshot) -> dict[str, Any]:
    """Give the snapshot for JSON. `capped` names the counts that stopped; what is not known is null."""
    return {
        "schema": "jobqueue.stats/1",
        "at": snapshot.at,
        "count_cap": COUNT_CAP,
        "queues": [_queue_document(queue) for queue in snapshot.queues],
        "workers": [_worker_document(worker) for worker in snapshot.workers],
        "unserved_kinds": [{"kind": each.kind, "jobs": each.jobs} for each in snapshot.unserved],
    }


def _queue_document(queue: QueueStats) -> dict[str, Any]:
    depth, throughput = queue.depth, queue.throughput
    counts = {name: getattr(depth, name) if depth else None for name in _COUNTED}
    return {
        "queue": queue.name,
        **{name: None if count is None else min(count, COUNT_CAP) for name, count in counts.items()},
        "capped": [name for name, count in counts.items() if count is not None and count > COUNT_CAP],
        "oldest_due_seconds": depth.oldest_due if depth else None,
        "completed_last_hour": throughput.last_hour if throughput else None,
        "completed_last_5_minutes": throughput.last_5_minutes if throughput else None,
        "completed_last_minute": throughput.last_minute if throughput else None,
        "failure_share_last_hour": queue.failure_share,
        "paused_at": queue.paused_at,
    }


def _worker_document(worker: WorkerRow) -> dict[str, Any]:
    return {
        "name": worker.name,
        "version": worker.version,
        "queues": worker.queues,
        "alive": worker.alive,
        "draining": worker.draining,
        "in_flight": worker.in_flight,
        "concurrency": worker.concurrency,
        "started_at": worker.started_at,
        "silent_seconds": round(worker.silent, 3),
    }


def _line(queue: QueueStats) -> list[object]:
    fields = _queue_document(queue)
    capped = fields["capped"]
    counts = [f"{COUNT_CAP}+" if name in capped else fields[name] for name in _COUNTED[:4]]
    oldest = fields["oldest_due_seconds"]
    share = fields["failure_share_last_hour"]
    return [
        queue.name,
        *counts,
        None if oldest is None else f"{oldest:.3f}",
        fields["completed_last_hour"],
        fields["completed_last_5_minutes"],
        fields["completed_last_minute"],
        None if share is None else f"{share:.4f}",
        queue.paused_at,
    ]


def _queues(snapshot: Snapshot) -> Table:
    made = table(
        "QUEUE", ">DUE", ">DELAYED", ">PROCESSING", ">FAILED", ">OLDEST\nDUE", ">DONE\n1M/5M/1H", ">FAILING\n1H"
    )
    for queue in snapshot.queues:
        name = Text(printable(queue.name))
        if queue.paused_at is not None:
            name.append(" paused", style="bold yellow")
        made.add_row(name, *_cells(queue))
    return made


def _cells(queue: QueueStats) -> list[Text]:
    depth, throughput, share = queue.depth, queue.throughput, queue.failure_share
    if depth is None:
        cells = [Text("?", style="bright_black")] * 5
    else:
        oldest = "-" if depth.oldest_due is None else span(depth.oldest_due)
        cells = [
            _count(depth.due, "yellow"),
            _count(depth.delayed, "yellow"),
            _count(depth.processing, "cyan"),
            _count(depth.failed, "red"),
            Text(oldest),
        ]
    done = ["-" if number is None else f"{number:,}" for number in _completed(throughput)]
    return [*cells, Text("/".join(done)), Text("-" if share is None else f"{share:.1%}", style="red" if share else "")]


def _completed(throughput: Throughput | None) -> tuple[int | None, int | None, int | None]:
    """Jobs completed in the last minute, five minutes and hour."""
    if throughput is None:
        return (None, None, None)
    return (throughput.last_minute, throughput.last_5_minutes, throughput.last_hour)


def _count(number: int, style: str) -> Text:
    text = f"{COUNT_CAP:,}+" if number > COUNT_CAP else f"{number:,}"
    return Text(text, style=style if number else "bright_black")


def _workers(snapshot: Snapshot) -> Table:
    made = table("WORKER", "STATE", ">JOBS", "UP", "VERSION", "!QUEUES")
    for worker in snapshot.workers:
        if not worker.alive:
            state = Text(f"silent for {span(worker.silent)}", style="red")
        else:
            state = Text("draining", style="yellow") if worker.draining else Text("alive", style="green")
        up = span((snapshot.at - worker.started_at).total_seconds())
        queues = Text(printable(", ".join(worker.queues)))
        jobs = Text(f"{worker.in_flight}/{worker.concurrency}")
        made.add_row(Text(printable(worker.name)), state, jobs, up, printable(worker.version), queues)
    return made


def _unserved(snapshot: Snapshot) -> Table:
    made = table("KIND THAT NO WORKER SERVES", ">JOBS")
    for each in snapshot.unserved:
        made.add_row(Text(printable(each.kind), style="yellow"), _count(each.jobs, "yellow"))
    return made


def _nobody() -> Table:
    made = table("WORKER")
    made.add_row(Text("none has shown itself within a day: start one with `jobqueue worker`", style="yellow"))
    return made
