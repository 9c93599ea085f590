"""The host's side: plain SQL, as an application in any language would write it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from jobqueue.demo.sources import Source

_TERMINAL = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Row:
    """What the host reads back for one file once its job has ended."""

    file_id: uuid.UUID
    job_id: uuid.UUID
    status: str
    error_message: str | None
    seconds: float | None
    width: int | None
    height: int | None
    display_url: str | None
    thumb_url: str | None


class Host:
    """An application with one group of files, over a connection in autocommit mode."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._group = uuid.uuid4()

    def publish(self, sources: Iterable[Source]) -> dict[uuid.UUID, Source]:
        """Insert each file and its job, in one transaction; returns the files' ids."""
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
        """Jobs of the group by status."""
        rows = self._connection.execute(
            "SELECT status, count(*) FROM publish_jobs JOIN auction_files AS f ON f.id = file_id"
            " WHERE f.asset_group_id = %s GROUP BY status",
            (self._group,),
        )
        return {str(status): int(count) for status, count in rows}

    def results(self) -> list[Row]:
        """Where each file of the group stands now, in order of completion."""
        with self._connection.cursor(row_factory=class_row(Row)) as cursor:
            return cursor.execute(
                "SELECT f.id AS file_id, j.id AS job_id, j.status, j.error_message, f.width, f.height,"
                " extract(epoch FROM j.completed_at - j.started_at)::float8 AS seconds, f.display_url, f.thumb_url"
                " FROM auction_files AS f JOIN publish_jobs AS j ON j.file_id = f.id"
                " WHERE f.asset_group_id = %s ORDER BY j.completed_at",
                (self._group,),
            ).fetchall()


def ended(progress: dict[str, int]) -> int:
    """How many jobs are in a state that does not change any more."""
    return sum(progress.get(status, 0) for status in _TERMINAL)
