"""The handler of `download_artifacts`: from a project's media to one artifact on the CDN.

The builder selects the media, measures the files that were never read, and lays the artifact out. If the store has that
artifact already, the row gets its URL. Otherwise the builder notes the upload, moves files into parts and parts to the
store, and completes the object. Then one transaction gives the row its URL and ends the job. Stages: select, measure,
upload, commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from jobqueue.artifacts.artifact_plan import lay_out, select
from jobqueue.artifacts.artifact_progress import Progress
from jobqueue.artifacts.entry_names import content_disposition
from jobqueue.artifacts.measure import Measurer
from jobqueue.artifacts.transfer import BUFFER_BYTES, NotTheFile, Sizing, Transfer, is_long
from jobqueue.artifacts.uploads import Sweeper, Uploads
from jobqueue.errors import JobError, Permanent, Retry
from jobqueue.kernel import Chore, Queue
from jobqueue.net.patience import patiently
from jobqueue.observe.logging import get_logger
from jobqueue.origin.origin_ranges import FileChanged
from jobqueue.storage.multipart import MultipartUpload, UploadGone
from jobqueue.storage.store_failures import AccessRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from jobqueue.artifacts.artifact_plan import ArtifactLimits, ArtifactPlan, Media
    from jobqueue.artifacts.artifact_progress import ArtifactMetrics
    from jobqueue.kernel import Context, Job
    from jobqueue.origin.origin_ranges import OriginRanges
    from jobqueue.storage.objects import ObjectInfo, Objects

log = get_logger(__name__)

QUEUE: Final = "download_artifacts"

STAGES: Final = ("select", "measure", "upload", "commit")

CONTENT_TYPE: Final = "application/zip"
CACHE_CONTROL: Final = "public, max-age=31536000, immutable"

# The share of BUFFER_BYTES for files that are kept from their first reading.
_KEEP_BYTES: Final = BUFFER_BYTES * 6 // 10

# An attempt lays the artifact out at most this often, anew each time that a file went away or changed.
_LAYOUTS: Final = 5

_SWEEP_SECONDS: Final = 60.0

_RECORD_ARTIFACT: Final = """
UPDATE public.download_artifacts
SET storage_key = %(key)s, cdn_url = %(url)s, filename = %(filename)s, size_bytes = %(size)s,
    file_count = %(count)s, manifest = %(manifest)s, phase = NULL,
    files_done = %(entries)s, files_total = %(entries)s, bytes_done = %(size)s, bytes_total = %(size)s,
    upload_key = NULL, upload_id = NULL, updated_at = now()
WHERE id = %(id)s
"""


class _Gone(Exception):
    """The origin no longer gives a file that was measured."""

    def __init__(self, entry: int, error: Permanent | Retry) -> None:
        super().__init__(entry)
        self.entry = entry
        self.error = error


@dataclass(frozen=True, slots=True)
class _Attempt:
    context: Context
    progress: Progress
    measurer: Measurer
    uploads: Uploads


class ArtifactBuilder:
    """The handler and what it works with. Safe to call from many threads."""

    def __init__(
        self,
        source: OriginRanges,
        objects: Objects,
        metrics: ArtifactMetrics,
        limits: ArtifactLimits,
        *,
        cdn_base_url: str,
        conninfo: str,
    ) -> None:
        self._source = source
        self._objects = objects
        self._metrics = metrics
        self._limits = limits
        self._cdn = cdn_base_url.rstrip("/")
        self._sweeper = Sweeper(conninfo, objects)

    def queue(self) -> Queue:
        """The queue for a worker. A process builds one artifact at a time: each fills its connections and memory."""
        return Queue(
            QUEUE,
            self.build,
            columns=("project_id", "type", "upload_key", "upload_id"),
            limit=1,
            chores=(Chore("sweep_uploads", _SWEEP_SECONDS, self._sweeper.start),),
            keep_attempts="all",
        )

    def build(self, job: Job, context: Context) -> None:
        """Build the job's artifact, or find it built.

        Raises Permanent for what no further attempt can change (a limit, no media, none of their files there), Retry
        when the store or the whole origin is in trouble, Snooze while another job builds the same artifact, Cancelled
        when the project is gone, and what the context raises.
        """
        progress = Progress(context)
        measurer = Measurer(self._source, context, progress, self._metrics, self._limits)
        attempt = _Attempt(context, progress, measurer, Uploads(context, self._objects))
        with context.stage("select"):
            selection = select(context, job.columns["project_id"], job.columns["type"] or "ALL", self._limits)
        for _ in range(_LAYOUTS):
            with context.stage("measure"):
                measurer.measure(selection, _KEEP_BYTES)
            plan = lay_out(selection, self._limits)
            try:
                self._publish(plan, attempt)
            except NotTheFile as changed:
                measurer.forget(plan.sources[changed.entry])
            except _Gone as gone:
                plan.sources[gone.entry].leave_out(gone.error)
                # Where one file is gone, others may be: find them all now instead of one upload at a time.
                measurer.probe([item for item in plan.sources if item.missing is None and item.kept is None])
            else:
                return
        raise Retry(f"files of the project changed while it was read, {_LAYOUTS} times in a row")

    def _publish(self, plan: ArtifactPlan, attempt: _Attempt) -> None:
        """See to it that the store has the artifact, and record it."""
        context = attempt.context
        with context.stage("upload"):
            attempt.uploads.note_key(plan.storage_key)
            existing = self._find(plan.storage_key)
            reused = existing is not None and existing.size_bytes == plan.layout.size
            if reused:
                self._metrics.reused.inc()
            else:
                self._upload(plan, attempt)
        log.info(
            "artifact_ready",
            size_bytes=plan.layout.size,
            files=len(plan.sources),
            missing=len(plan.missing),
            reused=reused,
        )
        with context.stage("commit"):
            context.commit(lambda cursor: self._record(cursor, attempt.context.job, plan))
        self._metrics.files.labels("sent").inc(len(plan.sources))
        self._metrics.files.labels("missing").inc(len(plan.missing))

    def _find(self, key: str) -> ObjectInfo | None:
        """What the store has under `key`, as far as it tells us."""
        try:
            return self._objects.head(key)
        except AccessRefused:
            # So it answers for what is not there when our key may not list. If the key is wrong, the writing says so.
            return None

    def _upload(self, plan: ArtifactPlan, attempt: _Attempt) -> None:
        context, layout = attempt.context, plan.layout
        sizing = Sizing.of(layout.size, sum(len(item.kept or b"") for item in plan.sources))
        long = next((item for item in plan.sources if item.size is not None and is_long(item.size, sizing)), None)
        split = long is not None and self._serves_ranges(plan.sources.index(long), long, context.checkpoint)
        attempt.progress.begin("sending", len(layout.entries), layout.size)
        headers = {
            "content_type": CONTENT_TYPE,
            "cache_control": CACHE_CONTROL,
            "content_disposition": content_disposition(plan.filename),
        }

        def transfer(send: Callable[[int, bytearray], object]) -> None:
            def send_part(number: int, body: bytearray, checkpoint: Callable[[], None]) -> None:
                patiently(lambda: send(number, body), checkpoint, except_for=(UploadGone,))

            Transfer(
                layout,
                sizing,
                read=lambda entry, start, end, sink, checkpoint: self._read(plan, entry, start, end, sink, checkpoint),
                send=send_part,
                split=split,
                on_file=lambda: attempt.progress.add(files=1),
                on_sent=lambda size: self._sent(attempt.progress, size),
            ).run(context.checkpoint, attempt.progress.tick)

        if sizing.count == 1:
            # One request leaves nothing to clean up; and Backblaze makes no large file of fewer than two parts.
            transfer(lambda _number, body: self._objects.put(plan.storage_key, bytes(body), **headers))
            return
        context.checkpoint()
        upload = MultipartUpload(self._objects, plan.storage_key, **headers)
        try:
            attempt.uploads.note_id(upload.id)
            transfer(upload.part)
            context.checkpoint()
            patiently(lambda: upload.complete(layout.size), context.checkpoint, except_for=(UploadGone,))
        except BaseException:
            self._give_up(upload)
            raise

    def _give_up(self, upload: MultipartUpload) -> None:
        """Abort our own upload, whoever has the job by now. Where that fails, others find it by the note in the row."""
        try:
            upload.abort()
        except JobError as error:
            log.warning("upload_not_aborted", error=str(error))

    def _serves_ranges(self, entry: int, item: Media, checkpoint: Callable[[], None]) -> bool:
        assert item.size is not None
        try:
            return self._source.serves_ranges(item.source_key, item.size, checkpoint=checkpoint)
        except FileChanged:
            raise NotTheFile(entry) from None
        except (Permanent, Retry) as error:
            raise _Gone(entry, error) from error

    def _read(
        self,
        plan: ArtifactPlan,
        entry: int,
        start: int,
        end: int,
        sink: Callable[[bytes], None],
        checkpoint: Callable[[], None],
    ) -> None:
        item = plan.sources[entry]
        assert item.size is not None

        def counted(data: bytes) -> None:
            self._metrics.downloaded.inc(len(data))
            sink(data)

        try:
            self._source.read(item.source_key, start, end, item.size, checkpoint=checkpoint, sink=counted)
        except FileChanged:
            raise NotTheFile(entry) from None
        except (Permanent, Retry) as error:
            raise _Gone(entry, error) from error

    def _sent(self, progress: Progress, size: int) -> None:
        progress.add(size=size)
        self._metrics.uploaded.inc(size)
        self._metrics.bytes.inc(size)

    def _record(self, cursor: psycopg.Cursor[Any], job: Job, plan: ArtifactPlan) -> None:
        cursor.execute(
            _RECORD_ARTIFACT,
            {
                "id": job.id,
                "key": plan.storage_key,
                "url": f"{self._cdn}/{plan.storage_key}",
                "filename": plan.filename,
                "size": plan.layout.size,
                "count": len(plan.sources),
                "entries": len(plan.layout.entries),
                "manifest": Jsonb(plan.manifest()),
            },
        )
