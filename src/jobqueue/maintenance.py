"""The kinds `webhook-retry`, `notification-expiry` and `data-archival`, and the work that they share with their endpoints."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from jobqueue.errors import Interrupted, Retry, Snooze
from jobqueue.kinds import put_off_while_away
from jobqueue.retention.archival import Archival
from jobqueue.retention.notification_expiry import NotificationExpiry
from jobqueue.webhooks.webhook_retries import WebhookRetries

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.kernel import Context, Job
    from jobqueue.kinds import Kinds
    from jobqueue.observe.metrics import Metrics
    from jobqueue.retention.archive_store import ArchiveStore
    from jobqueue.settings import Settings

RUN_SECONDS: Final = 240.0
"""How long one run of a job goes on, in seconds. The same job takes up what is left a moment later, behind those that waited."""

_NEXT_RUN_SECONDS: Final = 1.0
_BUSY_SECONDS: Final = 30.0


class Maintenance:
    """Keeps deliveries, notifications and events in order. `store` is None where there is no object store."""

    def __init__(self, settings: Settings, metrics: Metrics, store: ArchiveStore | None) -> None:
        self.retries = WebhookRetries(settings.conninfo, pooled=settings.pooled)
        self.expiry = NotificationExpiry(settings.conninfo, settings.notification_expiry_batch_size)
        self.archival = Archival(
            settings.conninfo,
            store,
            metrics,
            days=settings.retention_days,
            batch_size=settings.data_archival_batch_size,
            archive=settings.archive_before_delete,
        )

    def register(self, kinds: Kinds) -> None:
        """Have jobs of these kinds done here."""
        kinds.register("webhook-retry", put_off_while_away(self._retry))
        kinds.register("notification-expiry", put_off_while_away(self._expire))
        kinds.register("data-archival", put_off_while_away(self._archive))

    def _retry(self, _job: Job, context: Context) -> None:
        with context.stage("promote"):
            self.retries.run(_pace(context))

    def _expire(self, _job: Job, context: Context) -> None:
        with context.stage("expire"):
            expired = self.expiry.run(_pace(context))
        if expired.more:
            raise Snooze(expired.message, _NEXT_RUN_SECONDS)

    def _archive(self, _job: Job, context: Context) -> None:
        with context.stage("archive"):
            archived = self.archival.run(_pace(context))
        if archived.refused is not None:
            # Another process may have what is missing here.
            raise Retry(archived.refused)
        if archived.busy:
            raise Snooze(archived.message, _BUSY_SECONDS)
        if archived.more:
            raise Snooze(archived.message, _NEXT_RUN_SECONDS)


def _pace(context: Context) -> Callable[[], bool]:
    """Make what a run asks before each batch. It raises as Context.checkpoint does, and Interrupted when the worker drains."""
    until = time.monotonic() + RUN_SECONDS

    def proceed() -> bool:
        context.checkpoint()
        if context.draining:
            raise Interrupted("the worker is stopping: what is left is for the next run")
        return time.monotonic() < until

    return proceed
