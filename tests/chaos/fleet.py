"""The workers of a run: real processes that are killed, stopped, told to end and started again, and none of which may end by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support.daemon import clean_environment
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Seconds that a worker may take to end after SIGTERM, whatever state its connections are in: DRAIN_TIMEOUT and what the
# release of its jobs may take.
LAST: Final = 60.0


@dataclass
class Member:
    """One of the workers; `process` is None while it is to be down."""

    number: int
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    leaving_since: float | None = None
    stopped: bool = False
    logs: list[Path] = field(default_factory=list)


class Fleet:
    """Used as a context manager, in one thread alone: on leaving, all are killed. `problems` says who ended by itself, and how."""

    def __init__(self, folder: Path, environments: Sequence[Mapping[str, str]]) -> None:
        self.folder = folder
        self.members = [Member(number, environment) for number, environment in enumerate(environments)]
        self.problems: list[str] = []
        self.executions = folder / "executions"
        self.executions.touch()

    def __enter__(self) -> Fleet:
        for member in self.members:
            self.start(member)
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            self.kill(member)

    def start(self, member: Member) -> None:
        log = self.folder / f"worker-{member.number}-{member.starts}.log"
        environment = {
            **clean_environment(),
            **member.environment,
            "EXECUTIONS": str(self.executions),
            "OWNER": str(os.getpid()),
        }
        with log.open("ab") as output:
            member.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True,
            )  # fmt: skip
        member.starts += 1
        member.logs.append(log)
        member.leaving_since = None
        member.stopped = False

    def kill(self, member: Member) -> None:
        """SIGKILL; returns when it is gone."""
        if member.process is not None:
            member.process.kill()
            member.process.wait()
            member.process = None

    def send(self, member: Member, number: signal.Signals) -> None:
        if member.process is not None:
            member.process.send_signal(number)
            if number == signal.SIGTERM:
                member.leaving_since = time.monotonic()
            member.stopped = number == signal.SIGSTOP

    def left(self, member: Member) -> bool:
        """Whether a member that was told to end has done so; one that takes too long for that is killed, which is a problem."""
        if member.process is None:
            return True
        assert member.leaving_since is not None
        code = member.process.poll()
        if code is None and time.monotonic() - member.leaving_since > LAST:
            self.problems.append(
                f"worker {member.number} did not end within {LAST:.0f} s of SIGTERM: {member.logs[-1]}"
            )
            self.kill(member)
            return True
        if code and not (code == -signal.SIGTERM and not self._has_started(member)):
            self.problems.append(f"worker {member.number} ended with {code} after SIGTERM: {member.logs[-1]}")
        if code is not None:
            member.process = None
        return code is not None

    def watch(self) -> None:
        """Note whoever has ended without being told to, and start it again, as its manager would."""
        for member in self.members:
            if member.process is not None and member.leaving_since is None and member.process.poll() is not None:
                said = member.logs[-1].read_text()[-2000:]
                code = member.process.returncode
                self.problems.append(f"worker {member.number} ended by itself with {code}: {member.logs[-1]}\n{said}")
                self.start(member)

    def wait_until_started(self) -> None:
        """Wait until each says that it works."""
        for member in self.members:
            eventually(lambda member=member: self._has_started(member), 60, interval=0.05)  # type: ignore[misc]

    def end(self) -> None:
        """Have all end in order."""
        for member in self.members:
            self.send(member, signal.SIGTERM)
        for member in self.members:
            eventually(lambda member=member: self.left(member), 2 * LAST, interval=0.05)  # type: ignore[misc]

    def _has_started(self, member: Member) -> bool:
        """Whether it has said so: before that the signal may find a process that has not begun to listen for it."""
        return b'"worker_started"' in member.logs[-1].read_bytes()

    def complaints(self) -> Counter[str]:
        """How often each event above a warning is in the logs; lines that are no JSON count as `(no JSON)`."""
        found: Counter[str] = Counter()
        for member in self.members:
            for log in member.logs:
                with log.open() as lines:
                    for line in lines:
                        # A line that a killed process did not finish is none of its words.
                        if line.endswith("\n") and (event := _event(line)):
                            found[event] += 1
        return found


def _event(line: str) -> str:
    """Level and event of a line; of a library's own words, which name ports and addresses, the beginning."""
    try:
        entry = json.loads(line)
    except ValueError:
        return f"(no JSON) {line.strip()[:100]}"
    return f"{entry['level']} {entry['event'].partition(':')[0]}" if entry["level"] != "info" else ""
