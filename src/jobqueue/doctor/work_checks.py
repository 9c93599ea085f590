"""Checks of the work itself: who serves the queues, what fails, and what nobody will do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobqueue.admin.inspector import Inspector, list_queues, list_workers
from jobqueue.admin.selection import Selection
from jobqueue.admin.unserved_kinds import list_unserved
from jobqueue.doctor.checkup import Checkup, Verdict, named, warn, well
from jobqueue.kinds import QUEUE as JOBS
from jobqueue.moments import stamp
from jobqueue.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAUSED: Final = b"""
SELECT name, paused_at, coalesce(paused_by, 'somebody') FROM public.schedules
WHERE paused_at IS NOT NULL AND removed_at IS NULL ORDER BY 1"""

_PAUSES: Final = b"SELECT queue, paused_at FROM jobqueue.pauses ORDER BY queue"

_LATE: Final = b"""
SELECT name, next_tick_at FROM public.schedules
WHERE enabled AND paused_at IS NULL AND removed_at IS NULL
  AND isfinite(next_tick_at) AND next_tick_at < now() - interval '5 minutes' ORDER BY 2"""

_SINCE_DISABLED: Final = b"""
SELECT id::text, coalesce(disabled_reason, '') FROM public.app_webhooks
WHERE is_active IS NOT TRUE AND disabled_reason IS NOT NULL ORDER BY 1"""


def workers(checkup: Checkup) -> Iterator[Verdict]:
    """Whatever is due has a worker that serves it."""
    alive = [worker for worker in list_workers(checkup.connection) if worker.alive]
    served = {queue for worker in alive for queue in worker.queues}
    idle = []
    for queue in list_queues(checkup.connection):
        due = Inspector(checkup.connection, queue).depth().due if queue.name not in served else 0
        if due:
            idle.append(f"{queue.name} ({due:,})")
    if idle:
        yield warn(f"jobs are due, and no worker is alive that serves {named(idle)}", "start `jobqueue worker`")
    if others := sorted({worker.version for worker in alive} - {__version__}):
        yield warn(
            f"workers of version {named(others)} are alive beside this {__version__}", "let the deployment complete"
        )
    if not idle and not others:
        yield well(f"{len(alive)} workers are alive" if len(alive) != 1 else "1 worker is alive")


def kinds(checkup: Checkup) -> Verdict:
    """Every kind of job has a handler somewhere."""
    for unserved in list_unserved(checkup.connection):
        return warn(
            unserved.sentence,
            f"start a worker that has a handler for it, or `jobqueue jobs cancel {JOBS} --kind {unserved.kind}`",
        )
    return well("every kind of job that waits has a handler")


def failures(checkup: Checkup) -> Iterator[Verdict]:
    """No job has failed for good within the last hour."""
    clean = True
    for queue in list_queues(checkup.connection):
        inspector = Inspector(checkup.connection, queue)
        if failed := inspector.depth().failed_last_hour:
            clean = False
            [last] = inspector.find(Selection(("failed",)), 1).jobs
            yield warn(
                f"{failed:,} jobs of {queue.name} failed within the hour, the last because: {last.error_message or '(nothing said)'}",
                f"mend it, then `jobqueue jobs requeue {queue.name} --status failed`",
            )
    if clean:
        yield well("no job has failed within the hour")


def paused_queues(checkup: Checkup) -> Verdict:
    """No queue is paused."""
    for name, at in checkup.rows(_PAUSES):
        return warn(f"the queue {name} is paused since {stamp(at)}", f"`jobqueue queues resume {name}`")
    return well("no queue is paused")


def schedules(checkup: Checkup) -> Iterator[Verdict]:
    """Schedules tick."""
    paused, late = checkup.rows(_PAUSED), checkup.rows(_LATE)
    for name, at, by in paused:
        yield warn(f"the schedule {name} is paused since {stamp(at)} by {by}", f"`jobqueue schedules resume {name}`")
    for name, at in late[:1]:
        yield warn(
            f"the schedule {name} should have ticked at {stamp(at)}, and {len(late) - 1} more are late",
            "start `jobqueue worker` with SCHEDULER_IS_PRIMARY=true",
        )
    if not paused and not late:
        yield well("no schedule is paused or late")


def disabled_webhooks(checkup: Checkup) -> Verdict:
    """No webhook was disabled because its receiver failed."""
    for id_, reason in checkup.rows(_SINCE_DISABLED):
        return warn(f"the webhook {id_} was disabled: {reason}", f"mend it, then `jobqueue webhooks enable {id_}`")
    return well("no webhook was disabled")
