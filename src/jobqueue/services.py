"""What the handlers work with, made from the settings once a process; and the queues that the process can serve with it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from jobqueue.artifacts.artifact_builder import QUEUE as ARTIFACTS
from jobqueue.artifacts.artifact_builder import ArtifactBuilder
from jobqueue.artifacts.artifact_plan import ArtifactLimits
from jobqueue.artifacts.artifact_progress import ArtifactMetrics
from jobqueue.artifacts.measure import READERS
from jobqueue.artifacts.transfer import MOST_IN_FLIGHT
from jobqueue.errors import ConfigurationError
from jobqueue.kinds import QUEUE as JOBS
from jobqueue.maintenance import Maintenance
from jobqueue.media.media_purge import MediaPurge
from jobqueue.media.memory_budget import MemoryBudget, default_budget
from jobqueue.media.publisher import QUEUE as PUBLISHING
from jobqueue.media.publisher import Publisher
from jobqueue.net.address_guard import Guard
from jobqueue.net.download_limits import DownloadLimits
from jobqueue.origin.origin_client import OriginClient
from jobqueue.origin.origin_ranges import OriginRanges
from jobqueue.retention.archive_store import ArchiveStore
from jobqueue.storage.objects import Objects
from jobqueue.webhooks.webhook_delivery import QUEUE as WEBHOOKS
from jobqueue.webhooks.webhook_delivery import Webhooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.kernel import Queue
    from jobqueue.kinds import Kinds
    from jobqueue.observe.metrics import Metrics
    from jobqueue.settings import Settings


_SERVED: Final = (PUBLISHING, ARTIFACTS, WEBHOOKS, JOBS)


class _Media:
    """Clients of the origin and the object store, and the memory budget, shared by all jobs of the process."""

    def __init__(self, settings: Settings, metrics: Metrics, concurrency: int) -> None:
        """Raises ConfigurationError that lists the missing variables."""
        media = settings.require_media()
        self._origin = OriginClient(
            media.raid_pub_endpoint,
            media.raid_publisher_secret.first,
            limits=DownloadLimits(max_bytes=settings.max_source_bytes),
            pool_size=concurrency,
        )
        # A picture's two puts go out together.
        self._objects = Objects(
            media.b2_endpoint,
            media.b2_key_id.first,
            media.b2_app_key.first,
            media.b2_bucket,
            media.b2_region,
            connections=2 * concurrency,
        )
        budget = MemoryBudget(settings.memory_budget or default_budget())
        metrics.memory_budget_bytes.set(budget.total)
        metrics.memory_budget_used_bytes.set_function(lambda: budget.used)
        self._publisher = Publisher(
            self._origin,
            self._objects,
            budget,
            metrics,
            cdn_base_url=media.cdn_base_url,
            max_pixels=settings.max_source_pixels,
            concurrency=2 * concurrency,
        )
        # Artifacts have clients of their own: their retries must not use up those of pictures. They have twice the connections of
        # one artifact, because a run for a scheduler may go on beside the worker's own.
        self._artifact_source = OriginRanges(
            media.raid_pub_endpoint, media.raid_publisher_secret.first, pool_size=2 * READERS
        )
        self._artifact_objects = Objects(
            media.b2_endpoint,
            media.b2_key_id.first,
            media.b2_app_key.first,
            media.b2_bucket,
            media.b2_region,
            connections=2 * MOST_IN_FLIGHT,
            read_seconds=60.0,
        )
        self._archive_objects = self._artifact_objects
        if settings.archive_bucket not in (None, media.b2_bucket):
            self._archive_objects = Objects(
                media.b2_endpoint,
                media.b2_key_id.first,
                media.b2_app_key.first,
                settings.archive_bucket or media.b2_bucket,
                media.b2_region,
                connections=2,
                read_seconds=60.0,
            )
        self._artifact_builder = ArtifactBuilder(
            self._artifact_source,
            self._artifact_objects,
            ArtifactMetrics(metrics),
            ArtifactLimits(settings.max_media_files_per_zip, settings.max_zip_size_bytes),
            cdn_base_url=media.cdn_base_url,
            conninfo=settings.conninfo,
        )

    @property
    def artifacts(self) -> Queue:
        """The queue of artifacts."""
        return self._artifact_builder.queue()

    def queues(self) -> list[Queue]:
        return [self._publisher.queue(), self.artifacts]

    @property
    def archive_store(self) -> ArchiveStore:
        """Where old events and notifications go."""
        return ArchiveStore(self._archive_objects)

    def register(self, kinds: Kinds) -> None:
        """Add the kinds of work that need the object store."""
        kinds.register("media-purge", MediaPurge(self._objects).run)

    def close(self) -> None:
        """Close connections that are kept open."""
        self._publisher.close()
        self._origin.close()
        self._objects.close()
        self._artifact_source.close()
        self._artifact_objects.close()
        self._archive_objects.close()


class Services:
    """What all jobs of the process share. Without the variables of media, the process can serve webhooks and `jobs`."""

    def __init__(self, settings: Settings, metrics: Metrics, concurrency: int, kinds: Kinds) -> None:
        """Raises ConfigurationError that lists the missing variables, when some of those of media are set."""
        self._media = _Media(settings, metrics, concurrency) if settings.has_media else None
        self._webhooks = Webhooks(
            Guard(settings.webhook_allowed_cidrs, allow_http=settings.webhook_allow_http),
            metrics,
            conninfo=settings.conninfo,
            slots=concurrency,
            max_retries=settings.max_webhook_retries,
            backoff_base=settings.webhook_retry_backoff_base,
        )
        self._settings = settings
        self._kinds = kinds
        if self._media is not None:
            self._media.register(kinds)
        self.maintenance = Maintenance(settings, metrics, None if self._media is None else self._media.archive_store)
        self.maintenance.register(kinds)

    @property
    def artifacts(self) -> Queue | None:
        """The queue of artifacts, whether or not this process's worker serves it; None without media."""
        return None if self._media is None else self._media.artifacts

    def queues(self, wanted: Sequence[str] = (), own: Sequence[Queue] | None = None) -> list[Queue]:
        """The queues named in `wanted`; all of them when it is empty. `own` are those of the host's program, None without one:
        with it, all means those and `jobs`, which has the program's kinds.

        Raises ConfigurationError for a name that nobody has a handler for here, and when media's variables are missing for
        one that needs them. It does so for all of ours together too: if a worker left publishing out without a word, customers
        would be the first to notice.
        """
        theirs = [queue.name for queue in own or ()]
        known_names = [*theirs, *(name for name in _SERVED if name not in theirs)]
        if unknown := [name for name in wanted if name not in known_names]:
            raise ConfigurationError([_without_handler(name, known_names) for name in unknown])
        if not wanted and own is not None:
            wanted = (*theirs, JOBS)
        if self._media is None and not (wanted and set(wanted) <= {JOBS, WEBHOOKS, *theirs}):
            self._settings.require_media()
        ours = [
            *(self._media.queues() if self._media is not None else ()),
            self._webhooks.queue(),
            self._kinds.queue(),
        ]
        # A program that has a handler of its own for one of our tables has it done by that.
        known = [*(own or ()), *(queue for queue in ours if queue.name not in theirs)]
        return [queue for queue in known if not wanted or queue.name in wanted]

    def close(self) -> None:
        """Close connections that are kept open."""
        self._webhooks.close()
        if self._media is not None:
            self._media.close()


def _without_handler(queue: str, known: Sequence[str]) -> str:
    if near := get_close_matches(queue, known, 1):
        hint = f"for example --queue {near[0]}"
    else:
        hint = (
            f"give it one with @app.queue({queue!r}) and name that program with --app MODULE:APP, "
            "as docs/how-to/adopt-a-table.md shows"
        )
    return f"--queue {queue}: this program has no handler for it; it has handlers for {', '.join(known)}; {hint}"
