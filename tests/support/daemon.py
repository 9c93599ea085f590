"""A worker daemon as a real process, seen from outside: its signals, its exit code, its log."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tests.support.roles import as_role
from tests.support.waiting import eventually

from jobqueue.demo.leash import Leash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.origin import SteadyOrigin
    from tests.support.s3 import Bucket

# What a Python program needs to run at all; no variable of the session that runs the tests reaches the daemon.
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")

CDN = "https://cdn.example.test"

WORKER = ("-m", "jobqueue", "worker")

Entry = dict[str, Any]


def clean_environment() -> dict[str, str]:
    """The part of this process's environment that a child may have."""
    given = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("PYTHON")}
    return {**given, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def worker_environment(dsn: str, origin: SteadyOrigin, bucket: Bucket, **variables: object) -> dict[str, str]:
    """The environment of a daemon that publishes from `origin` to `bucket`; `variables` are added, by their names.

    It comes to the database of `dsn` as jobqueue_worker.
    """
    return {
        "DATABASE_URL": as_role(dsn, "worker"),
        "RAID_PUB_ENDPOINT": origin.endpoint,
        "RAID_PUBLISHER_SECRET": origin.secret,
        **bucket.environment(),
        "CDN_BASE_URL": CDN,
        "PORT": "0",
        **{name: str(value) for name, value in variables.items()},
    }


def stop_still(pid: int) -> None:
    """Send SIGSTOP to a process; it stands still when this returns."""
    os.kill(pid, signal.SIGSTOP)
    # On a busy machine the thread that takes the signal may have to wait for its turn, and the others run on.
    eventually(lambda: _stands_still(pid))


def _stands_still(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


class DaemonProcess:
    """`jobqueue worker ARGUMENTS` with `environment`; what it writes to either output goes to the file `output`.

    It ends with this process, whatever ends it. `command` runs another program in its place.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        output: Path,
        *arguments: str,
        command: tuple[str, ...] = WORKER,
    ) -> None:
        self.output = output
        output.touch()
        self._leash = Leash(
            [sys.executable, *command, *arguments], log=output, env={**clean_environment(), **environment}
        )
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """The daemon's own process id."""
        if self._pid is None:
            self._pid = int(str(self.wait_for("worker_started")["worker"]).rpartition(":")[2].partition("-")[0])
        return self._pid

    @property
    def running(self) -> bool:
        return self._leash.running

    def log(self, event: str | None = None, **fields: object) -> list[Entry]:
        """The log's entries so far, only those of `event` that have `fields` when given. Fails on a line that is no JSON object."""
        lines = self.output.read_text().splitlines(keepends=True)
        entries: list[Entry] = [json.loads(line) for line in lines if line.endswith("\n")]
        return [
            entry
            for entry in entries
            if event in (None, entry["event"]) and all(entry.get(name) == value for name, value in fields.items())
        ]

    def wait_for(self, event: str, *, count: int = 1, timeout: float = 30.0, **fields: object) -> Entry:
        """Wait until the log has `count` entries of `event` with `fields`; returns the last of them."""

        def found() -> list[Entry]:
            entries = self.log(event, **fields)
            assert entries or self.running, f"the daemon ended; its output:\n{self.output.read_text()}"
            return entries if len(entries) >= count else []

        try:
            return eventually(found, timeout, interval=0.02)[-1]
        except AssertionError as error:
            raise AssertionError(
                f"no {event} with {fields}; the daemon's output:\n{self.output.read_text()}"
            ) from error

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the daemon itself; after SIGSTOP it stands still when this returns."""
        if number == signal.SIGSTOP:
            stop_still(self.pid)
        else:
            os.kill(self.pid, number)

    def forward(self, number: signal.Signals) -> None:
        """Have whoever holds its leash send it a signal: for a daemon that has not said its process id yet."""
        self._leash.send(number)

    def kill(self) -> None:
        """Kill it outright and wait until it is gone."""
        if self.running:
            self.send(signal.SIGKILL)
            assert self.wait() == 128 + signal.SIGKILL

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end; returns the exit code, 128 + n for death by signal n."""
        eventually(lambda: not self.running, timeout)
        return self._leash.wait()

    def stop(self) -> None:
        """End it in whatever state it is, if it has not ended."""
        if self.running:
            if self._pid is not None:
                os.kill(self._pid, signal.SIGKILL)
            self._leash.stop(timeout=5.0)


class Launch(Protocol):
    """Starts a daemon with an environment and arguments, or another program in its place."""

    def __call__(
        self, environment: Mapping[str, str], *arguments: str, command: tuple[str, ...] = WORKER
    ) -> DaemonProcess: ...


@contextmanager
def launching(folder: Path) -> Iterator[Launch]:
    """Gives what starts daemons, with their output in `folder`; on leaving they are ended."""
    started: list[DaemonProcess] = []

    def launch(environment: Mapping[str, str], *arguments: str, command: tuple[str, ...] = WORKER) -> DaemonProcess:
        output = folder / f"daemon-{len(started)}.log"
        started.append(DaemonProcess(environment, output, *arguments, command=command))
        return started[-1]

    try:
        yield launch
    finally:
        for daemon in started:
            daemon.stop()
