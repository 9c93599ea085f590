"""Drivers as processes: commands that end, and workers whose progress is followed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Self

from bench.queues.installed import ROOT
from jobqueue.demo.leash import Leash

if TYPE_CHECKING:
    from pathlib import Path

    from bench.queues.installed import Installed


# Seconds that a command may take: millions of rows are written by one.
_LONGEST = 1_800.0


class DriverError(Exception):
    """A driver did not do what it was told; the message names it and quotes what it said."""


def command(peer: Installed, *arguments: str) -> str:
    """Run a driver's command to its end and return what it printed. Raises DriverError when it fails."""
    try:
        done = subprocess.run(
            [*peer.command, *arguments],
            cwd=ROOT,
            env={**os.environ, **peer.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST,
        )
    except subprocess.TimeoutExpired:
        raise DriverError(f"{peer.name} {arguments[0]} took longer than {_LONGEST:.0f} s") from None
    if done.returncode:
        raise DriverError(f"{peer.name} {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-1500:]}")
    return done.stdout


class Worker:
    """One `work` process. It ends with this process, by SIGKILL, whatever ends that."""

    def __init__(self, peer: Installed, dsn: str, log: Path, *options: str) -> None:
        self.name = peer.name
        self.count = 0
        self.first = 0.0
        self.last = 0.0
        self.began: dict[int, float] = {}
        self.samples: list[tuple[float, int]] = []
        self._log = log
        self._ready = threading.Event()
        tried = ["--concurrency", str(peer.concurrency)] if peer.concurrency else []
        self._leash = Leash(
            [*peer.command, "work", "--dsn", dsn, *options, *tried],
            log=None,
            error_log=log,
            env={**os.environ, **peer.environment},
            last_signal=signal.SIGKILL,
        )
        self._reader = threading.Thread(target=self._read, name=f"follow-{peer.name}", daemon=True)
        self._reader.start()

    def wait_ready(self, timeout: float = 60.0) -> Self:
        """Return when the worker listens. Raises DriverError when it ends first or takes longer."""
        if not self._ready.wait(timeout) or not self._leash.running:
            self.kill()
            raise DriverError(f"{self.name} was not ready within {timeout:.0f} s: {self.said()}")
        return self

    @property
    def running(self) -> bool:
        return self._leash.running

    def said(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._log.read_text(errors="replace").strip()[-1500:] if self._log.exists() else ""

    def stop(self) -> None:
        """Stop gracefully, and take in the last of its progress."""
        self._leash.stop(signal.SIGTERM, timeout=20.0)
        self._reader.join(5.0)

    def kill(self) -> None:
        """SIGKILL: nothing is handed over, nothing is said."""
        self._leash.stop(signal.SIGKILL)
        self._reader.join(5.0)

    def _read(self) -> None:
        with self._leash.stdout as lines:
            for line in lines:
                match line.split():
                    case [b"progress", count, first, last]:
                        self.first, self.last = float(first), float(last)
                        self.samples.append((time.time(), int(count)))
                        self.count = int(count)
                    case [b"began", number, at]:
                        self.began.setdefault(int(number), float(at))
                        self.count = len(self.began)
                    case [b"ready"]:
                        self._ready.set()
        self._ready.set()
