"""How far an artifact is: in its row, at most once a second, and in metrics."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import Counter

if TYPE_CHECKING:
    import psycopg

    from jobqueue.kernel import Context
    from jobqueue.observe.metrics import Metrics

_EVERY_SECONDS: Final = 1.0

_WRITE_PROGRESS: Final = """
UPDATE public.download_artifacts
SET phase = %(phase)s, files_done = %(files_done)s, files_total = %(files_total)s,
    bytes_done = %(bytes_done)s, bytes_total = %(bytes_total)s, updated_at = now()
WHERE id = %(job_id)s
"""

OUTCOMES: Final = ("sent", "missing")


class ArtifactMetrics:
    """What artifacts add to the process's metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self.downloaded = metrics.bytes_downloaded
        self.uploaded = metrics.bytes_uploaded
        self.files = Counter(
            "jobqueue_artifact_files",
            "Files of artifacts, by what became of them",
            ["outcome"],
            registry=metrics.registry,
        )
        self.bytes = Counter("jobqueue_artifact_bytes", "Bytes of artifacts written", registry=metrics.registry)
        self.reused = Counter(
            "jobqueue_artifacts_reused", "Artifacts answered by a ZIP that existed", registry=metrics.registry
        )
        for outcome in OUTCOMES:
            self.files.labels(outcome)


class Progress:
    """Counts from any thread. The handler's thread calls `tick`, which writes the figures to the row when due."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._written_at = -1e9
        self._written: dict[str, Any] = {}
        self._now: dict[str, Any] = {}

    def begin(self, phase: str, files_total: int, bytes_total: int | None) -> None:
        """Begin the phase `measuring` or `sending`, and count from 0. Raises as `tick` does."""
        with self._lock:
            self._now = {
                "phase": phase,
                "files_done": 0,
                "files_total": files_total,
                "bytes_done": 0,
                "bytes_total": bytes_total,
            }
        self.tick()

    def add(self, *, files: int = 0, size: int = 0) -> None:
        """Count files and bytes as done; a negative figure takes back what has to be done again."""
        with self._lock:
            self._now["files_done"] += files
            self._now["bytes_done"] += size

    def tick(self) -> None:
        """Write what changed, at most once a second. Raises as `Context.write` does."""
        if time.monotonic() - self._written_at < _EVERY_SECONDS:
            return
        with self._lock:
            now = dict(self._now)
        if now == self._written:
            return
        self._context.write(lambda cursor: _write(cursor, {**now, "job_id": self._context.job.id}))
        self._written, self._written_at = now, time.monotonic()


def _write(cursor: psycopg.Cursor[Any], progress: dict[str, Any]) -> None:
    cursor.execute(_WRITE_PROGRESS, progress)
