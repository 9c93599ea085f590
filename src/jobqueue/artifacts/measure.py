"""The first reading of a file: its size and CRC, recorded in project_media so that nobody measures it again.

The builder measures all files of an artifact before it lays them out. If the files fit into memory together, it keeps
them and does not read them again.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from jobqueue.artifacts.artifact_plan import TooLarge
from jobqueue.artifacts.crew import Crew
from jobqueue.errors import Permanent, Retry
from jobqueue.observe.logging import get_logger
from jobqueue.origin.origin_ranges import FileChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from jobqueue.artifacts.artifact_plan import ArtifactLimits, Media, MediaSelection
    from jobqueue.artifacts.artifact_progress import ArtifactMetrics, Progress
    from jobqueue.kernel import Context
    from jobqueue.origin.origin_ranges import OriginRanges

log = get_logger(__name__)

READERS: Final = 5
"""Files that are read from the origin at the same time."""

_RECORD_EVERY: Final = 1.0

_RECORD_MEASURES: Final = """
UPDATE public.project_media AS m
SET measured_bytes = read.size, measured_crc32 = read.crc32, measured_at = now()
FROM unnest(%(ids)s, %(keys)s::text[], %(sizes)s::bigint[], %(crcs)s::bigint[])
     AS read (id, source_key, size, crc32)
WHERE m.id = read.id AND m.source_key = read.source_key
"""

_FORGET_MEASURE: Final = """
UPDATE public.project_media SET measured_bytes = NULL, measured_crc32 = NULL, measured_at = NULL
WHERE id = %(id)s AND source_key = %(source_key)s
"""


class Measurer:
    """Measures and probes the files of one attempt at an artifact."""

    def __init__(
        self,
        source: OriginRanges,
        context: Context,
        progress: Progress,
        metrics: ArtifactMetrics,
        limits: ArtifactLimits,
    ) -> None:
        self._source = source
        self._context = context
        self._progress = progress
        self._metrics = metrics
        self._limits = limits
        self._lock = threading.Lock()
        self._unrecorded: list[Media] = []
        self._recorded_at = time.monotonic()

    def measure(self, selection: MediaSelection, keep_bytes: int) -> None:
        """Give every file of the selection its size and CRC, or a reason for leaving it out.

        `Media.kept` gets the bytes of the files that have to be read, if they have at most `keep_bytes` together.
        Raises TooLarge as soon as what was read shows that the artifact would exceed its limit, and what the context
        raises.
        """
        unknown = [item for item in selection.media if not item.measured and item.missing is None]
        if not unknown:
            return
        reading = _Reading(sum(item.size or 0 for item in selection.media if item.measured), keep_bytes, self._limits)
        self._progress.begin("measuring", len(unknown), sum(item.declared for item in unknown) or None)
        self._each(unknown, lambda item, checkpoint: self._measure(item, reading, checkpoint))
        self._record(unconditionally=True)
        if reading.keeping:
            for item in unknown:
                pieces = reading.kept.pop(id(item), None)
                item.kept = None if item.missing is not None or pieces is None else b"".join(pieces)

    def probe(self, media: Sequence[Media]) -> None:
        """Find out which of `media` are no longer there, without reading them.

        Forgets a file that has another size now, so that it is measured again.
        """
        self._each(media, self._probe)

    def forget(self, item: Media) -> None:
        """Remove the record of a file that is not what was recorded of it, so that it is measured again."""
        log.warning("artifact_source_changed", media_id=str(item.id))
        item.size = item.crc32 = item.kept = None
        self._context.write(lambda cursor: _forget(cursor, item))

    def _each(self, media: Sequence[Media], work: Callable[[Media, Callable[[], None]], None]) -> None:
        """Do `work` for all of `media`, in order, several at a time."""
        waiting = iter(media)

        def loop() -> None:
            while True:
                with crew.changed:
                    item = next(waiting, None)
                if item is None:
                    return
                crew.checkpoint()
                try:
                    work(item, crew.checkpoint)
                except TooLarge:
                    raise
                except (Permanent, Retry) as error:
                    item.leave_out(error)
                self._progress.add(files=1)

        with Crew(self._context.checkpoint, self._tick) as crew:
            crew.start("measure", min(READERS, len(media)), loop)
            crew.watch_to_end()

    def _measure(self, item: Media, reading: _Reading, checkpoint: Callable[[], None]) -> None:
        done = 0

        def on_chunk(data: bytes, offset: int) -> None:
            nonlocal done
            self._metrics.downloaded.inc(len(data))
            # An offset of 0 takes back what an earlier attempt brought.
            gained = len(data) - (done - offset)
            self._progress.add(size=gained)
            reading.took(item, data, offset, gained)
            done = offset + len(data)

        try:
            measured = self._source.measure(item.source_key, checkpoint=checkpoint, on_chunk=on_chunk)
        except (Permanent, Retry):
            reading.dropped(item, done)
            raise
        item.size, item.crc32 = measured.size, measured.crc32
        with self._lock:
            self._unrecorded.append(item)

    def _probe(self, item: Media, checkpoint: Callable[[], None]) -> None:
        assert item.size is not None
        try:
            self._source.probe(item.source_key, item.size, checkpoint=checkpoint)
        except FileChanged:
            item.size = item.crc32 = None

    def _tick(self) -> None:
        self._context.checkpoint()
        self._progress.tick()
        self._record()

    def _record(self, *, unconditionally: bool = False) -> None:
        """Write measures to the rows, at most once a second, so that a crash makes nobody read those files again."""
        if not unconditionally and time.monotonic() - self._recorded_at < _RECORD_EVERY:
            return
        with self._lock:
            items, self._unrecorded = self._unrecorded, []
        if items:
            self._context.write(lambda cursor: _record(cursor, items))
        self._recorded_at = time.monotonic()


class _Reading:
    """Counts what is read in all, against the limit, and keeps what has room."""

    def __init__(self, known_bytes: int, keep_bytes: int, limits: ArtifactLimits) -> None:
        self._lock = threading.Lock()
        self._bytes = known_bytes
        self._limits = limits
        self._room = keep_bytes
        self.keeping = True
        self.kept: dict[int, list[bytes]] = {}

    def took(self, item: Media, data: bytes, offset: int, gained: int) -> None:
        with self._lock:
            self._bytes += gained
            self._room -= gained
            self._limits.check_bytes(self._bytes)
            if self._room < 0:
                self.keeping = False
                self.kept.clear()
            elif self.keeping:
                if offset == 0:
                    self.kept[id(item)] = []
                self.kept[id(item)].append(data)

    def dropped(self, item: Media, size: int) -> None:
        with self._lock:
            self._bytes -= size
            self._room += size
            self.kept.pop(id(item), None)


def _record(cursor: psycopg.Cursor[Any], items: Sequence[Media]) -> None:
    cursor.execute(
        _RECORD_MEASURES,
        {
            "ids": [item.id for item in items],
            "keys": [item.source_key for item in items],
            "sizes": [item.size for item in items],
            "crcs": [item.crc32 for item in items],
        },
    )


def _forget(cursor: psycopg.Cursor[Any], item: Media) -> None:
    cursor.execute(_FORGET_MEASURE, {"id": item.id, "source_key": item.source_key})
