"""The commands that every driver answers to, and what it prints.

    DRIVER setup     --dsn DSN                       create the peer's schema in a fresh database
    DRIVER enqueue   --dsn DSN --count N [--delay S] enqueue N no-op jobs the fastest documented way, due in S seconds
    DRIVER trickle   --dsn DSN --count N --every S   enqueue one job every S seconds; `sent I T` after each commit
    DRIVER work      --dsn DSN [--concurrency C] [--report]   work until SIGTERM, then stop gracefully
    DRIVER remaining --dsn DSN                       print a cheap query: how many jobs are not recorded as finished
    DRIVER fill      --dsn DSN --kind K --count N    N jobs that are there already: history, delayed or pending ones;
                                                     exits 3 where the peer keeps no such rows

T is in seconds since the epoch; I is the number that the job carries in its payload. `work` prints `ready` when it
listens, then `progress COUNT FIRST LAST` whenever that has changed: how many handlers have ended in this process, when
the first began and when the last ended. With --report it prints `began I T` as each handler begins instead.

A handler that does nothing calls `Meter.ran(number)`, and that is all it does.
"""

from __future__ import annotations

import argparse
import operator
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Seconds between two looks at whether there is progress to print.
_TICK = 0.02

_MANY = 1 << 60

A_DAY = 86_400.0

# What `fill` exits with when the peer has no such rows.
UNSUPPORTED = 3


class Meter:
    """Counts the handlers that ended in this process, from any thread, at next to no cost."""

    def __init__(self, *, report: bool) -> None:
        self._report = report
        # Taking the next of a `repeat` is one atomic step; an integer that threads add to would lose some.
        self._left = repeat(None, _MANY)
        self._first = 0.0
        self._last = 0.0

    def ran(self, number: int) -> None:
        """The whole of a handler: say that job `number` began, and that it ended."""
        now = time.time()
        if not self._first:
            self._first = now
        if self._report:
            say(f"began {number} {now:.6f}")
        next(self._left)
        self._last = now

    def print_progress(self) -> None:
        """Print `progress` lines for as long as the process lives, in a thread of its own."""
        threading.Thread(target=self._print, name="progress", daemon=True).start()

    def final(self) -> None:
        """Print the last `progress` line, after the last handler has ended."""
        if count := self._count():
            say(f"progress {count} {self._first:.6f} {self._last:.6f}")

    def _count(self) -> int:
        return _MANY - operator.length_hint(self._left)

    def _print(self) -> None:
        printed = 0
        while not self._report:
            count, last = self._count(), self._last
            if count != printed:
                say(f"progress {count} {self._first:.6f} {last:.6f}")
                printed = count
            time.sleep(_TICK)


@dataclass(frozen=True)
class Work:
    """What `work` is asked for. `concurrency` is None where the driver's own best value is wanted. `stopped` is set by
    SIGTERM and SIGINT, unless the peer takes these signals for itself."""

    dsn: str
    concurrency: int | None
    meter: Meter
    stopped: threading.Event

    def wait(self) -> None:
        """Announce readiness and return when the process is told to stop; for peers that leave the main thread free."""
        say("ready")
        self.stopped.wait()


@dataclass(frozen=True)
class Driver:
    """A peer: `trickle` commits a job before it yields that job's number; `work` returns after SIGTERM has stopped it;
    `fills` writes rows of a kind straight into the peer's tables: finished ones as the peer leaves them (missing: it
    leaves none), delayed and pending ones where its own way would take minutes (missing: it does not)."""

    setup: Callable[[str], None]
    enqueue: Callable[[str, int, float], None]
    trickle: Callable[[str, int], Iterable[int]]
    work: Callable[[Work], None]
    remaining: str
    fills: Mapping[str, Callable[[str, int], None]] = field(default_factory=dict)


def say(line: str) -> None:
    """Print one line, at once and whole whatever thread it comes from."""
    os.write(1, f"{line}\n".encode())


def pace(numbers: Iterable[int], every: float) -> None:
    """Take one of `numbers` every `every` seconds and say when each had been sent."""
    due = time.monotonic()
    source = iter(numbers)
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        number = next(source, None)
        if number is None:
            return
        say(f"sent {number} {time.time():.6f}")
        due += every


def _fill(driver: Driver, dsn: str, kind: str, count: int) -> None:
    if kind in driver.fills:
        driver.fills[kind](dsn, count)
    elif kind == "history":
        sys.exit(UNSUPPORTED)
    else:
        driver.enqueue(dsn, count, A_DAY if kind == "delayed" else 0.0)


def main(driver: Driver) -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["setup", "enqueue", "fill", "trickle", "work", "remaining"])
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--kind", choices=["history", "delayed", "pending"])
    parser.add_argument("--every", type=float, default=0.05)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    match options.command:
        case "setup":
            driver.setup(options.dsn)
        case "enqueue":
            driver.enqueue(options.dsn, options.count, options.delay)
        case "fill":
            _fill(driver, options.dsn, options.kind, options.count)
        case "trickle":
            pace(driver.trickle(options.dsn, options.count), options.every)
        case "remaining":
            say(driver.remaining)
        case _:
            meter, stopped = Meter(report=options.report), threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stopped.set())
            meter.print_progress()
            driver.work(Work(options.dsn, options.concurrency, meter, stopped))
            meter.final()
    sys.stdout.flush()
