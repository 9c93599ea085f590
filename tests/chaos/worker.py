"""The worker of a run: the daemon as it is, with one more kind of jobs, whose runs are written down where no fault reaches.

    python -m tests.chaos.worker

EXECUTIONS is a file to which each run adds a line when it begins and one when its handler has come to its end: the job, the
lease's token, the attempt.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jobqueue.daemon import Daemon
from jobqueue.errors import Permanent, Retry, Snooze
from jobqueue.settings import load_settings

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from jobqueue.kernel import Context, Job
    from jobqueue.kernel.job import LeasedJob

KIND = "chaos"

_PR_SET_PDEATHSIG = 1


def _token(job: Job) -> UUID:
    """The token of the lease that the job is held under, which is no handler's business but this one's."""
    return cast("LeasedJob", job).token


class Handler:
    """Does jobs of the kind; see `tests.chaos.work` for how each goes."""

    def __init__(self, executions: Path) -> None:
        # Lines of one write to a file that is appended to stay whole, and outlive a process that is killed.
        self._executions = os.open(executions, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def __call__(self, job: Job, context: Context) -> None:
        how = job.columns["payload"]["how"]
        if how == "noop":
            return
        self._note("began", job)
        self._work(how, job, context)
        self._note("ended", job)

    def _note(self, what: str, job: Job) -> None:
        os.write(self._executions, f"{what} {job.id} {cast('LeasedJob', job).token} {job.attempt}\n".encode())

    def _work(self, how: str, job: Job, context: Context) -> None:
        def effect(cursor: psycopg.Cursor[Any]) -> None:
            cursor.execute("INSERT INTO chaos.effects (job_id, token) VALUES (%s, %s)", [job.id, _token(job)])

        match how:
            case "return":
                return
            case "write":
                context.write(effect)
                return
            case "fail":
                raise Permanent("this job fails for good")
            case "exhaust":
                raise Retry("this job fails each time", 0.1)
            case "flaky" if job.attempt == 1:
                raise Retry("this job fails the first time", 0.2)
            case "snooze" if not self._was_put_off(job, context):
                raise Snooze("this job is put off the first time", 0.3)
            case "slow":
                until = time.monotonic() + 0.5 + job.id % 3
                while time.monotonic() < until:
                    context.checkpoint()
                    time.sleep(0.1)
            case "stubborn":
                time.sleep(0.5 + job.id % 3)
        context.commit(effect)

    def _was_put_off(self, job: Job, context: Context) -> bool:
        query = "SELECT error_message IS NOT NULL FROM jobs WHERE id = %(id)s"
        return bool(context.read(query, {"id": job.id}) == [(True,)])


class ChaosDaemon(Daemon):
    """The daemon, which also serves the kind."""

    def __init__(self, executions: Path) -> None:
        super().__init__(load_settings())
        self._scheduler.kinds.register(KIND, Handler(executions))


def main() -> int:
    # Whatever ends the one who started this ends it, too, even when it stands still.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ["OWNER"]):
        return 1
    return ChaosDaemon(Path(os.environ["EXECUTIONS"])).run()


if __name__ == "__main__":
    sys.exit(main())
