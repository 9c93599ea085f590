"""The host: plain SQL, as an application in any language would write it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from jobqueue.demo.demo_sources import DemoSource

_TERMINAL = ("completed", "failed", "cancelled")
_ARTIFACT_TERMINAL = ("READY", "FAILED", "CANCELLED")
_PROJECT = "Demo pictures"


@dataclass(frozen=True)
class Row:
    """One file and its job, as the host reads them once the job has ended. `seconds` is how long the last attempt took."""

    file_id: uuid.UUID
    job_id: uuid.UUID
    status: str
    error_message: str | None
    seconds: float | None
    width: int | None
    height: int | None
    display_url: str | None
    thumb_url: str | None


@dataclass(frozen=True)
class ArtifactRow:
    """What the host reads of an artifact it asked for; `cdn_url` and what follows it are there once it is READY."""

    status: str
    error_message: str | None
    phase: str | None
    files_done: int | None
    files_total: int | None
    bytes_done: int | None
    bytes_total: int | None
    cdn_url: str | None
    filename: str | None
    size_bytes: int | None
    file_count: int | None
    manifest: dict[str, Any] | None

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.status in _ARTIFACT_TERMINAL


@dataclass(frozen=True)
class OfferedProject:
    """A project, and its media by id with the source of each: None for one that the origin does not have."""

    id: uuid.UUID
    media: dict[uuid.UUID, DemoSource | None]


class Host:
    """An application with one group of files, over a connection in autocommit mode."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._group = uuid.uuid4()

    def publish(self, sources: Iterable[DemoSource]) -> dict[uuid.UUID, DemoSource]:
        """Insert each file and its job, in one transaction; returns the sources by their file's id."""
        files = {uuid.uuid4(): source for source in sources}
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO auction_files (id, asset_group_id, source_key, original_name, mime_type, bytes)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                [
                    (file_id, self._group, source.key, source.name, source.mime_type, source.size)
                    for file_id, source in files.items()
                ],
            )
            cursor.executemany("INSERT INTO publish_jobs (file_id) VALUES (%s)", [(file_id,) for file_id in files])
        return files

    def progress(self) -> dict[str, int]:
        """Count the group's jobs by status."""
        rows = self._connection.execute(
            "SELECT status, count(*) FROM publish_jobs JOIN auction_files AS f ON f.id = file_id"
            " WHERE f.asset_group_id = %s GROUP BY status",
            (self._group,),
        )
        return {str(status): int(count) for status, count in rows}

    def results(self) -> list[Row]:
        """Read how each file of the group stands, in the order of completion."""
        with self._connection.cursor(row_factory=class_row(Row)) as cursor:
            return cursor.execute(
                "SELECT f.id AS file_id, j.id AS job_id, j.status, j.error_message, f.width, f.height,"
                " extract(epoch FROM j.completed_at - j.started_at)::float8 AS seconds, f.display_url, f.thumb_url"
                " FROM auction_files AS f JOIN publish_jobs AS j ON j.file_id = f.id"
                " WHERE f.asset_group_id = %s ORDER BY j.completed_at",
                (self._group,),
            ).fetchall()

    def offer(self, sources: Iterable[DemoSource], absent: Iterable[str]) -> OfferedProject:
        """Insert a project with these media, and with those of the keys `absent`, in one transaction."""
        found = {uuid.uuid4(): source for source in sources}
        missing = {uuid.uuid4(): key for key in absent}
        project = uuid.uuid4()
        rows = [
            *((media_id, project, source.key, source.name, source.size) for media_id, source in found.items()),
            *((media_id, project, key, key, None) for media_id, key in missing.items()),
        ]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("INSERT INTO projects (id, name) VALUES (%s, %s)", (project, _PROJECT))
            # A time of its own for each row: artifacts are in the order of created_at.
            cursor.executemany(
                "INSERT INTO project_media (id, project_id, kind, source_key, filename, bytes, created_at)"
                " VALUES (%s, %s, 'PHOTO', %s, %s, %s, clock_timestamp())",
                rows,
            )
        return OfferedProject(project, {**found, **dict.fromkeys(missing)})

    def download_all(self, project: uuid.UUID) -> uuid.UUID:
        """Ask for an artifact of all media of `project`; returns its id."""
        artifact = uuid.uuid4()
        self._connection.execute(
            "INSERT INTO download_artifacts (id, project_id, type) VALUES (%s, %s, 'ALL')", (artifact, project)
        )
        return artifact

    def artifact(self, artifact: uuid.UUID) -> ArtifactRow:
        """Read how an artifact stands. Raises LookupError for an id that is not there."""
        with self._connection.cursor(row_factory=class_row(ArtifactRow)) as cursor:
            row = cursor.execute(
                "SELECT status, error_message, phase, files_done, files_total, bytes_done, bytes_total,"
                " cdn_url, filename, size_bytes, file_count, manifest FROM download_artifacts WHERE id = %s",
                (artifact,),
            ).fetchone()
        if row is None:
            raise LookupError(f"there is no artifact {artifact}")
        return row


def ended(progress: dict[str, int]) -> int:
    """How many jobs are in a final state."""
    return sum(progress.get(status, 0) for status in _TERMINAL)
