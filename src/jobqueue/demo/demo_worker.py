"""The real `jobqueue migrate` and `jobqueue worker`, as processes beside the demo."""

from __future__ import annotations

import http.client
import signal
import time
from typing import TYPE_CHECKING, Self, TypeVar

from jobqueue.demo.launch import HOST
from jobqueue.demo.worker_log import Finished, WorkerLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jobqueue.demo.demo_stack import Stack
    from jobqueue.demo.leash import Leash

State = TypeVar("State")

_START_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_STALL_SECONDS = 300.0
_DRAIN_SECONDS = 40.0  # the worker's own DRAIN_TIMEOUT, and some


class WorkerError(Exception):
    """A command of jobqueue failed; the message quotes its output."""


def migrate(stack: Stack) -> None:
    """Bring the stack's empty database to this version. Raises WorkerError when that fails."""
    errors = stack.folder / "migrate.log"
    process = stack.run("migrate", log=errors)
    with process.stdout as output:
        said = output.read().decode(errors="replace")
    code = process.wait()
    if code != 0:
        raise WorkerError(f"jobqueue migrate ended with exit code {code}:\n{said}{errors.read_text()[-2000:]}")


class WorkerProcess:
    """One `jobqueue worker` of the stack. A context manager stops it at the end, if it was started."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._errors = stack.folder / "worker-errors.log"
        self._process: Leash | None = None
        self._log: WorkerLog | None = None

    def start(self) -> None:
        """Start it, and return when `/readyz` answers 200. Raises WorkerError when it ends first or takes more than 60 s."""
        self._process = self._stack.run("worker", log=self._errors)
        self._log = WorkerLog(self._process.stdout, self._stack.folder / "worker.log")
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            self.check()
            if time.monotonic() > deadline:
                raise WorkerError(f"the worker was not ready after {_START_SECONDS:.0f} s:\n{self.tail()}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raise WorkerError, which quotes the last lines of its log, when the worker is not running."""
        if self._process is None or not self._process.running:
            raise WorkerError(f"the worker ended by itself; its last words:\n{self.tail()}")

    def follow(self, look: Callable[[], State]) -> Iterator[State]:
        """Yield what `look` returns, twenty times a second, until the caller stops asking.

        Raises WorkerError when the worker ends, or when nothing has changed for five minutes.
        """
        last: State | None = None
        changed_at = time.monotonic()
        while True:
            now = look()
            yield now
            if now != last:
                last, changed_at = now, time.monotonic()
            self.check()
            if time.monotonic() - changed_at > _STALL_SECONDS:
                raise WorkerError(f"nothing has changed for {_STALL_SECONDS:.0f} s, at {now}:\n{self.tail()}")
            time.sleep(_LOOK_SECONDS)

    def finished(self, job_ids: Iterable[str], timeout: float) -> dict[str, Finished]:
        """Give the log lines of finished jobs by job id; wait up to `timeout` seconds for those of `job_ids`."""
        return {} if self._log is None else self._log.finished(job_ids, timeout)

    def tail(self) -> str:
        """Give the last lines of the worker's log and of its standard error."""
        errors = self._errors.read_text(errors="replace")[-2000:] if self._errors.exists() else ""
        return f"{self._log.tail() if self._log else ''}\n{errors}".strip()

    def stop(self) -> None:
        """Tell the worker to drain, and wait. Raises WorkerError when its exit code is not 0."""
        if self._process is None or self._log is None:
            return
        process, self._process = self._process, None
        code = process.stop(signal.SIGTERM, _DRAIN_SECONDS)
        self._log.close()
        if code != 0:
            raise WorkerError(f"the worker ended with exit code {code}; its last words:\n{self.tail()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.stop()
        except WorkerError:
            if kind is None:  # the error before says more than how the worker ended
                raise

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._stack.worker_port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
