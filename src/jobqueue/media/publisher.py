"""Publishing: from a source file at the origin to two pictures on the CDN.

The publisher fetches the source, looks at its header, decodes it once and encodes both variants. It puts them under
keys made of the source's digest and the recipe. Then one transaction gives the file its URLs and ends the job. Each step
has a name, for its log field and its metric's label: download, decode, encode, upload, commit.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobqueue.errors import Cancelled
from jobqueue.kernel import Chore, Queue
from jobqueue.media import orphans, publish_status
from jobqueue.media.scratch import Scratch
from jobqueue.media.source_picture import open_source
from jobqueue.media.variants import RECIPE, Variants, render

if TYPE_CHECKING:
    import psycopg

    from jobqueue.kernel import Context, Job
    from jobqueue.media.formats import Probe
    from jobqueue.media.memory_budget import MemoryBudget
    from jobqueue.net.download import Downloaded
    from jobqueue.observe.metrics import Metrics
    from jobqueue.origin.origin_client import OriginClient
    from jobqueue.storage.objects import Objects

QUEUE: Final = "publish_jobs"

STAGES: Final = ("download", "decode", "encode", "upload", "commit")

CONTENT_TYPE: Final = "image/webp"
CACHE_CONTROL: Final = "public, max-age=31536000, immutable"

# Seconds between two looks for files whose publish_status could not follow their job, because they were locked.
_STATUS_EVERY: Final = 30.0


_READ_FILE: Final = """
SELECT source_key, publish_status = 'deleted' OR deleted_at IS NOT NULL,
       ARRAY(SELECT DISTINCT key_prefix FROM public.publish_jobs
             WHERE file_id = %(id)s AND status IN ('failed', 'cancelled') AND key_prefix IS NOT NULL)
FROM public.auction_files WHERE id = %(id)s
"""

# Remembers the prefix that the file named before, so that media_purge removes its objects in time.
_PUBLISH_FILE: Final = """
WITH superseded AS (
    INSERT INTO jobqueue.superseded_prefixes AS s (prefix)
    SELECT f.cdn_key_prefix FROM public.auction_files AS f
    WHERE f.id = %(id)s AND f.cdn_key_prefix LIKE 'publish/%%' AND f.cdn_key_prefix <> %(prefix)s
    ON CONFLICT (prefix) DO UPDATE SET superseded_at = excluded.superseded_at)
UPDATE public.auction_files
SET thumb_url = %(thumb_url)s, display_url = %(display_url)s, cdn_key_prefix = %(prefix)s,
    bytes = %(bytes)s, width = %(width)s, height = %(height)s,
    publish_status = 'published', published_at = now(), updated_at = now()
WHERE id = %(id)s AND publish_status <> 'deleted' AND deleted_at IS NULL
"""


class _FileRow(NamedTuple):
    """The columns of _READ_FILE; `left` are prefixes noted by jobs of the file that ended without naming anything."""

    source_key: str | None
    deleted: bool
    left: list[str]


class Publisher:
    """The handler of `publish_jobs` and what it works with. Safe to call from many threads."""

    def __init__(
        self,
        origin: OriginClient,
        objects: Objects,
        budget: MemoryBudget,
        metrics: Metrics,
        *,
        cdn_base_url: str,
        max_pixels: int,
        concurrency: int,
    ) -> None:
        self._scratch = Scratch()
        self._origin = origin
        self._objects = objects
        self._budget = budget
        self._metrics = metrics
        self._cdn = cdn_base_url.rstrip("/")
        self._max_pixels = max_pixels
        # The two puts of a picture go out together: at a distant store each takes longer than encoding did.
        self._uploads = ThreadPoolExecutor(concurrency, thread_name_prefix="upload")

    def queue(self) -> Queue:
        """The queue for a worker."""
        return Queue(
            QUEUE,
            self.publish,
            columns=("file_id", "key_prefix"),
            chores=(Chore("publish_status", _STATUS_EVERY, publish_status.follow),),
            keep_attempts="all",
        )

    def publish(self, job: Job, context: Context) -> None:
        """Publish the job's file.

        Raises Permanent for a source that can never be published, Retry for trouble that passes, Cancelled when the
        file is gone, and what the context raises.
        """
        file = self._file(job, context)
        with self._scratch.folder() as folder:
            source = folder / "source"
            with context.stage("download"):
                fetched = self._origin.fetch(
                    file.source_key or "",
                    source,
                    checkpoint=context.checkpoint,
                    on_bytes=self._metrics.bytes_downloaded.inc,
                )
            probe = open_source(source, max_pixels=self._max_pixels, budget=self._budget, checkpoint=context.checkpoint)
            with self._budget.admit(probe.memory_bytes, checkpoint=context.checkpoint):
                variants = render(source, probe, stage=context.stage, checkpoint=context.checkpoint)
        prefix = f"publish/{fetched.sha256[:2]}/{fetched.sha256}/{RECIPE}"
        with context.stage("upload"):
            orphans.note_prefix(context, prefix, self._objects, file.left)
            self._upload(prefix, variants, context)
        with context.stage("commit"):
            context.commit(lambda cursor: self._name(cursor, job, fetched, probe, prefix))

    def close(self) -> None:
        """Give up uploads that have not begun, and remove temporary files."""
        self._uploads.shutdown(wait=False, cancel_futures=True)
        self._scratch.close()

    def _file(self, job: Job, context: Context) -> _FileRow:
        rows = context.read(_READ_FILE, {"id": job.columns["file_id"]})
        if not rows:
            raise Cancelled("the file of this job no longer exists")
        file = _FileRow(*rows[0])
        if file.deleted:
            raise Cancelled("the file was deleted before it was published")
        return file

    def _upload(self, prefix: str, variants: Variants, context: Context) -> None:
        context.checkpoint()
        puts = [self._uploads.submit(self._put, f"{prefix}/{variant.name}.webp", variant.data) for variant in variants]
        # Wait for all of them: nothing may still write when the outcome is recorded.
        errors = [put.exception() for put in puts]
        for error in errors:
            if error is not None:
                raise error

    def _put(self, key: str, data: bytes) -> None:
        self._objects.put(key, data, content_type=CONTENT_TYPE, cache_control=CACHE_CONTROL)
        self._metrics.bytes_uploaded.inc(len(data))

    def _name(self, cursor: psycopg.Cursor[Any], job: Job, fetched: Downloaded, probe: Probe, prefix: str) -> None:
        cursor.execute(
            _PUBLISH_FILE,
            {
                "id": job.columns["file_id"],
                "thumb_url": f"{self._cdn}/{prefix}/thumb.webp",
                "display_url": f"{self._cdn}/{prefix}/display.webp",
                "prefix": prefix,
                "bytes": fetched.size_bytes,
                "width": probe.width,
                "height": probe.height,
            },
        )
        if cursor.rowcount == 0:
            raise Cancelled("the file was deleted while it was being published")
