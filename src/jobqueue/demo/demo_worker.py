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
    """A command of jobqueue did not do its work; the message quotes what it said."""


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
    """One `jobqueue worker` of the stack. As a context manager it is stopped, when it was started, at the end."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._errors = stack.folder / "worker-errors.log"
        self._process: Leash | None = None
        self._log: WorkerLog | None = None

    def start(self) -> None:
        """Start it and return when `/readyz` says that it works. Raises WorkerError when it does not get there."""
        self._process = self._stack.run("worker", log=self._errors)
        self._log = WorkerLog(self._process.stdout, self._stack.folder / "worker.log")
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            self.check()
            if time.monotonic() > deadline:
                raise WorkerError(f"the worker was not ready after {_START_SECONDS:.0f} s:\n{self.tail()}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raise WorkerError, with the last lines of its log, when the worker is not running."""
        if self._process is None or not self._process.running:
            raise WorkerError(f"the worker ended by itself; its last words:\n{self.tail()}")

    def follow(self, look: Callable[[], State]) -> Iterator[State]:
        """What `look` returns, twenty times a second, for as long as the caller wants to know.

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
        """What the worker's log says of finished jobs; waits up to `timeout` seconds for the lines of these."""
        return {} if self._log is None else self._log.finished(job_ids, timeout)

    def tail(self) -> str:
        """The last lines of the worker's log and of its standard error."""
        errors = self._errors.read_text(errors="replace")[-2000:] if self._errors.exists() else ""
        return f"{self._log.tail() if self._log else ''}\n{errors}".strip()

    def stop(self) -> None:
        """Ask it to drain, and wait. Raises WorkerError when it does not end with exit code 0."""
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
            if kind is None:  # what went wrong before says more than how the worker ended
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
