"""What the handlers work with, made from the settings once a process, and the queues that it can serve with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.delivery.artifact import Archivist
from jobqueue.delivery.measure import READERS
from jobqueue.delivery.plan import Limits as ArchiveLimits
from jobqueue.delivery.progress import ArchiveMetrics
from jobqueue.delivery.source import Source
from jobqueue.delivery.transfer import MOST_IN_FLIGHT
from jobqueue.errors import ConfigurationError
from jobqueue.media.memory import MemoryBudget, default_budget
from jobqueue.media.origin import Origin
from jobqueue.media.publish import Publisher
from jobqueue.net.download import Limits
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.kernel import Queue
    from jobqueue.observe.metrics import Metrics
    from jobqueue.settings import Settings


class Services:
    """Clients of the origin and the object store, and the memory budget, shared by all jobs of the process."""

    def __init__(self, settings: Settings, metrics: Metrics, concurrency: int) -> None:
        """Raises ConfigurationError that lists the variables that are missing."""
        media = settings.require_media()
        self._origin = Origin(
            media.raid_pub_endpoint,
            media.raid_publisher_secret.first,
            limits=Limits(max_bytes=settings.max_source_bytes),
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
        # Archives have clients of their own: their retries must not use up those of pictures. Twice the connections of
        # one archive, because a run for a scheduler may be beside the worker's own.
        self._archive_source = Source(
            media.raid_pub_endpoint, media.raid_publisher_secret.first, pool_size=2 * READERS
        )
        self._archive_objects = Objects(
            media.b2_endpoint,
            media.b2_key_id.first,
            media.b2_app_key.first,
            media.b2_bucket,
            media.b2_region,
            connections=2 * MOST_IN_FLIGHT,
            read_seconds=60.0,
        )
        self._archivist = Archivist(
            self._archive_source,
            self._archive_objects,
            ArchiveMetrics(metrics),
            ArchiveLimits(settings.max_media_files_per_zip, settings.max_zip_size_bytes),
            cdn_base_url=media.cdn_base_url,
            conninfo=settings.conninfo,
        )

    @property
    def artifacts(self) -> Queue:
        """The queue of archives, whether or not this process's worker serves it."""
        return self._archivist.queue()

    def queues(self, wanted: Sequence[str] = ()) -> list[Queue]:
        """The queues named in `wanted`, all of them when it is empty. Raises ConfigurationError for a name nobody serves."""
        known = [self._publisher.queue(), self.artifacts]
        names = [queue.name for queue in known]
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise ConfigurationError(
                [f"--queue {name} is not served here; for example --queue {names[0]}" for name in unknown]
            )
        return [queue for queue in known if not wanted or queue.name in wanted]

    def close(self) -> None:
        """Close connections that are kept open."""
        self._publisher.close()
        self._origin.close()
        self._objects.close()
        self._archive_source.close()
        self._archive_objects.close()
