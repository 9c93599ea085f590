"""What became of each picture: its variants as the CDN serves them, its times, or the reason it failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyvips
import urllib3

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from jobqueue.demo.demo_host import Row
    from jobqueue.demo.demo_sources import DemoSource
    from jobqueue.demo.worker_log import Finished

STAGES = ("download", "decode", "encode", "upload", "commit")


@dataclass(frozen=True)
class ShownVariant:
    """A published picture, measured on what came from the CDN: pixels and bytes."""

    url: str
    width: int
    height: int
    size: int


@dataclass(frozen=True)
class Result:
    """One source and its end. `error` is set unless it was published; times are milliseconds."""

    source: DemoSource
    width: int | None = None
    height: int | None = None
    display: ShownVariant | None = None
    thumb: ShownVariant | None = None
    error: str | None = None
    duration_ms: float = 0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def published(self) -> bool:
        """Whether both variants can be read from the CDN."""
        return self.display is not None and self.thumb is not None

    @property
    def as_expected(self) -> bool:
        """Whether it ended as it should: published, unless it was made to fail."""
        return self.published is not self.source.must_fail


def gather(files: Mapping[UUID, DemoSource], rows: list[Row], finished: Mapping[str, Finished]) -> list[Result]:
    """Join what the database, the worker's log and the CDN say of each file, in the order of `files`."""
    by_file = {row.file_id: row for row in rows}
    with urllib3.PoolManager(retries=False, timeout=30) as http:
        return [_result(source, by_file[file_id], finished, http) for file_id, source in files.items()]


def _result(source: DemoSource, row: Row, finished: Mapping[str, Finished], http: urllib3.PoolManager) -> Result:
    log = finished.get(str(row.job_id))
    duration = log.duration_ms if log else (row.seconds or 0) * 1000
    stages = log.stages if log else {}
    if row.status != "completed":
        error = row.error_message or f"the job is {row.status}"
        return Result(source, error=error, duration_ms=duration, stages=stages)
    variants = [_fetch(url, http) for url in (row.display_url, row.thumb_url)]
    broken = next((problem for problem in variants if isinstance(problem, str)), None)
    display, thumb = (variant if isinstance(variant, ShownVariant) else None for variant in variants)
    return Result(source, row.width, row.height, display, thumb, broken, duration, stages)


def _fetch(url: str | None, http: urllib3.PoolManager) -> ShownVariant | str:
    """Give the variant behind a URL, or say what is wrong with it."""
    if url is None:
        return "the job is completed but the file has no URL"
    try:
        answer = http.request("GET", url)
    except urllib3.exceptions.HTTPError as error:
        return f"{url} cannot be read: {error}"
    if answer.status != 200 or answer.headers.get("Content-Type") != "image/webp":
        return f"{url} answers {answer.status} with type {answer.headers.get('Content-Type')}"
    picture = pyvips.Image.webpload_buffer(answer.data)
    return ShownVariant(url, picture.width, picture.height, len(answer.data))
