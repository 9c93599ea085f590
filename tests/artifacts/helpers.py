"""What the tests of artifacts share: a host's view of its projects, an origin with ranges and faults, workers, readers."""

from __future__ import annotations

import io
import itertools
import random
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.support.daemon import CDN
from tests.support.gated_worker import Later
from tests.support.host import Host, Row
from tests.support.http_server import Answer, Request, Wire, reply
from tests.support.origin import HeldOrigin
from tests.support.waiting import eventually

from jobqueue.artifacts.artifact_builder import ArtifactBuilder
from jobqueue.artifacts.artifact_plan import ArtifactLimits
from jobqueue.artifacts.artifact_progress import ArtifactMetrics
from jobqueue.kernel import Queue, Worker, WorkerOptions
from jobqueue.observe.metrics import Metrics
from jobqueue.origin.origin_ranges import OriginRanges
from jobqueue.storage.multipart import unfinished

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from jobqueue.storage.objects import Objects

MIB = 1024 * 1024

_numbers = itertools.count(1)


def noise(seed: int, size: int) -> bytes:
    """Bytes that no two seeds share."""
    return random.Random(seed).randbytes(size)


class Projects(Host):
    """A host with projects, media and artifacts."""

    def project(
        self, files: Mapping[str, bytes], *, name: str = "Sommerfest", measured: bool = False, **columns: object
    ) -> UUID:
        """Insert a project whose media have `files`' keys as source keys and file names; returns its id.

        `measured`: with the sizes and CRCs that an earlier reading would have recorded.
        """
        found = self.rows("INSERT INTO projects (name) VALUES (%(name)s) RETURNING id", name=name)
        project: UUID = found[0]["id"]
        for number, (key, data) in enumerate(files.items()):
            kind = columns.get("kind") or ("VIDEO" if key.endswith(".mov") else "PHOTO")
            self.execute(
                """
                INSERT INTO project_media (project_id, kind, source_key, filename, bytes, created_at,
                                           measured_bytes, measured_crc32)
                VALUES (%(project)s, %(kind)s, %(key)s, %(name)s, %(declared)s,
                        timestamptz '2024-05-17 12:00 UTC' + make_interval(mins => %(number)s), %(size)s, %(crc)s)
                """,
                project=project, kind=kind, key=key, name=columns.get("filename", key.rpartition("/")[2]), number=number,
                declared=columns.get("declared"), size=len(data) if measured else None,
                crc=zlib.crc32(data) if measured else None,
            )  # fmt: skip
        return project

    def ask(self, project: UUID, type_: str = "ALL", **columns: object) -> UUID:
        """Insert an artifact, as a host does; returns its id."""
        names = "".join(f", {name}" for name in columns)
        values = "".join(f", %({name})s" for name in columns)
        found = self.rows(
            f"INSERT INTO download_artifacts (project_id, type{names}) VALUES (%(p)s, %(t)s{values}) RETURNING id",
            p=project, t=type_, **columns,
        )  # fmt: skip
        return found[0]["id"]  # type: ignore[no-any-return]

    def artifact(self, id_: UUID) -> Row:
        return self.rows("SELECT * FROM download_artifacts WHERE id = %(id)s", id=id_)[0]

    def artifact_states(self) -> dict[str, int]:
        rows = self.rows("SELECT status, count(*) AS n FROM download_artifacts GROUP BY 1")
        return {row["status"]: row["n"] for row in rows}


class MediaOrigin(HeldOrigin):
    """Serves `files` by key; the first requests for a key get the answers in `faults[key]` instead.

    Requests for keys in `held` wait for `release`, after `held[key]` bytes of the body.
    """

    def __init__(self, files: dict[str, bytes], *, ranges: bool = True, secret: str = "origin-secret") -> None:
        super().__init__(secret)
        self.files = files
        self.ranges = ranges
        self.faults: defaultdict[str, list[Answer]] = defaultdict(list)
        self.held: dict[str, int] = {}
        self.asked: Counter[str] = Counter()
        self.served_bytes: Counter[str] = Counter()
        self.most_at_once = 0
        self._at_once = 0

    def source(self) -> OriginRanges:
        return OriginRanges(self.endpoint, self.secret, pool_size=10)

    def _answer(self, request: Request, wire: Wire) -> None:
        key = parse_qs(urlsplit(request.target).query)["key"][0]
        with self._lock:
            self.asked[key] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            fault = self.faults[key].pop(0) if self.faults[key] else None
        try:
            if request.headers.get("authorization") != f"Bearer {self.secret}":
                reply(401)(request, wire)
            elif fault is not None:
                fault(request, wire)
            elif key not in self.files:
                reply(404)(request, wire)
            else:
                self._serve(key, request, wire)
        finally:
            with self._lock:
                self._at_once -= 1

    def _serve(self, key: str, request: Request, wire: Wire) -> None:
        body = self.files[key]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")) if self.ranges else None
        start, end = (int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else len(body)) if wanted else (0, len(body))
        part = body[start : min(end, len(body))]
        head = {"Content-Length": str(len(part)), "ETag": f'"{zlib.crc32(body)}"'}
        if wanted:
            head["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(body)}"
        wire.head(206 if wanted else 200, head)
        before = self.held.get(key)
        if before is not None and not self._released.is_set():
            wire.send(part[:before])
            self._hold()
            part = part[before:]
        wire.send(part)
        self.served_bytes[key] += len(part)


@dataclass
class Yard:
    """What one test works with: a host, an origin, a bucket, and workers on them in this process."""

    host: Projects
    origin: MediaOrigin
    objects: Objects

    def builder(self, metrics: Metrics, *, max_files: int = 500, max_bytes: int = 2 << 30) -> ArtifactBuilder:
        return ArtifactBuilder(
            self.origin.source(), self.objects, ArtifactMetrics(metrics), ArtifactLimits(max_files, max_bytes),
            cdn_base_url=CDN, conninfo=self.host.dsn,
        )  # fmt: skip

    def queue(self, metrics: Metrics, **limits: int) -> Queue:
        made = self.builder(metrics, **limits).queue()
        return Queue(made.name, made.handler, made.columns, Later(), made.limit)

    def worker(
        self,
        metrics: Metrics | None = None,
        *,
        lease_seconds: float = 30,
        name: str = "",
        limits: dict[str, int] | None = None,
    ) -> Worker:
        metrics = metrics or Metrics()
        options = WorkerOptions(
            self.host.dsn, concurrency=3, lease_seconds=lease_seconds, poll_seconds=0.2,
            name=name or f"worker-{next(_numbers)}",
        )  # fmt: skip
        return Worker(options, [self.queue(metrics, **(limits or {}))], metrics=metrics)

    def work(self, **limits: int) -> Metrics:
        """Work on everything that is due; returns the worker's metrics."""
        metrics = Metrics()
        self.worker(metrics, limits=limits).run_once(60.0)
        return metrics

    def build(self, project: UUID, type_: str = "ALL", **limits: int) -> Row:
        """Ask for an artifact and work until there is nothing due; returns its row."""
        artifact = self.host.ask(project, type_)
        self.work(**limits)
        return self.host.artifact(artifact)

    @contextmanager
    def working(self, **options: Any) -> Iterator[Worker]:
        worker = self.worker(**options)
        worker.start()
        try:
            yield worker
        finally:
            if not worker.draining:
                worker.drain(0.0)

    def fetch(self, row: Row) -> bytes:
        """The bytes of an artifact."""
        assert row["status"] == "READY", row["error_message"]
        return self.objects.get(row["storage_key"], max_bytes=1 << 30)

    def read(self, row: Row) -> dict[str, bytes]:
        """The files in an artifact, verified."""
        with zipfile.ZipFile(io.BytesIO(self.fetch(row))) as made:
            assert made.testzip() is None
            return {info.filename: made.read(info) for info in made.infolist()}

    def uploads(self) -> list[str]:
        """The keys of unfinished uploads."""
        return [upload.key for upload in unfinished(self.objects, "")]

    def wait_for_upload(self, artifact: UUID) -> Row:
        """Wait until the artifact's upload has been begun and noted."""
        eventually(lambda: self.host.artifact(artifact)["upload_id"], 30)
        return self.host.artifact(artifact)
