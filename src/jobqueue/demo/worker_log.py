"""Reads the worker's log while it is written: the stage times of finished jobs, and the last lines in case of failure."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Finished:
    """The `job_finished` line of one job. Times are milliseconds."""

    outcome: str
    duration_ms: float
    stages: Mapping[str, float]


class WorkerLog:
    """Follows `stream` in a thread until it ends, copies every line to `copy`, and closes both."""

    def __init__(self, stream: IO[bytes], copy: Path) -> None:
        self._changed = threading.Condition()
        self._finished: dict[str, Finished] = {}
        self._tail: deque[str] = deque(maxlen=15)
        self._thread = threading.Thread(target=self._follow, args=(stream, copy), name="worker-log", daemon=True)
        self._thread.start()

    def finished(self, job_ids: Iterable[str], timeout: float) -> dict[str, Finished]:
        """Give the lines read so far, by job id; wait up to `timeout` seconds for those of `job_ids`."""
        wanted = set(job_ids)
        with self._changed:
            self._changed.wait_for(lambda: wanted <= self._finished.keys(), timeout)
            return dict(self._finished)

    def tail(self) -> str:
        """Give the last 15 lines as they were written. Waits up to a second for a stream that is ending."""
        self._thread.join(1)
        with self._changed:
            return "\n".join(self._tail)

    def close(self) -> None:
        """Wait for the end of the stream. Stop the worker first."""
        self._thread.join()

    def _follow(self, stream: IO[bytes], copy: Path) -> None:
        with stream, copy.open("wb") as kept:
            for line in stream:
                kept.write(line)
                kept.flush()
                self._take(line.decode(errors="replace").rstrip())

    def _take(self, line: str) -> None:
        try:
            entry: Any = json.loads(line)
        except ValueError:
            entry = None
        with self._changed:
            self._tail.append(line)
            if isinstance(entry, dict) and entry.get("event") == "job_finished" and "job_id" in entry:
                self._finished[str(entry["job_id"])] = Finished(
                    str(entry.get("outcome", "")), float(entry.get("duration_ms", 0)), entry.get("stages") or {}
                )
                self._changed.notify_all()
