"""What people see of webhooks and change about them: they list them, switch them on again, and send deliveries again.

Each statement has a limit on its time and on its patience (jobqueue.kernel.database.limited). Many rows are changed in batches.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from jobqueue.kernel.database.limited import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from jobqueue.kernel.database.limited import Connection

# Seconds that one statement may take.
_LIMIT: Final = 15.0

# Deliveries that one statement changes.
_BATCH: Final = 1_000

_LIST: Final = b"""
SELECT w.id::text, w.app_id::text, w.webhook_url, w.subscribed_events::text[], coalesce(w.is_active, false),
       coalesce(w.consecutive_failures, 0), coalesce(w.total_deliveries, 0), coalesce(w.total_failures, 0),
       w.last_success_at, w.last_failure_at, w.disabled_reason
FROM public.app_webhooks AS w
WHERE (%(ids)s::text[] IS NULL OR w.id::text = ANY (%(ids)s::text[]))
ORDER BY w.is_active, w.consecutive_failures DESC, w.app_id, w.id
"""

_ENABLE: Final = b"""
UPDATE public.app_webhooks AS w SET is_active = true, updated_at = now()
WHERE w.id::text = ANY (%(ids)s::text[]) AND w.is_active IS NOT TRUE
RETURNING w.id::text
"""

# Only deliveries that ended before the command began, the oldest first: so none is sent again twice.
_MATCHES: Final = b"""
    d.webhook_id = (SELECT w.id FROM public.app_webhooks AS w WHERE w.id::text = %(webhook)s)
    AND d.status = ANY (%(states)s::text[])
    AND d.created_at >= coalesce(%(since)s::timestamptz, '-infinity')
    AND coalesce(d.completed_at, d.created_at) <= %(before)s::timestamptz
"""

_COUNT: Final = b"SELECT count(*) FROM public.webhook_deliveries AS d WHERE " + _MATCHES

_REPLAY: Final = (
    b"""
WITH again AS (
    UPDATE public.webhook_deliveries AS t
    SET status = 'pending', retry_count = 0, crash_count = 0, run_after = clock_timestamp(), updated_at = clock_timestamp()
    WHERE t.id = ANY (ARRAY(
        SELECT d.id FROM public.webhook_deliveries AS d WHERE """
    + _MATCHES
    + b"""
        ORDER BY d.created_at LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING t.created_at)
SELECT count(*), max(created_at) FROM again
"""
)


@dataclass(frozen=True, slots=True)
class ListedWebhook:
    """One row of app_webhooks, without its secret; its URL is without the query, which may hold one."""

    id: str
    app_id: str | None
    url: str
    events: list[str]
    active: bool
    consecutive_failures: int
    total_deliveries: int
    total_failures: int
    last_success_at: datetime | None
    last_failure_at: datetime | None
    disabled_reason: str | None

    def document(self) -> dict[str, Any]:
        """The webhook as JSON has it."""
        return asdict(self)


class WebhookAdmin:
    """The webhooks of one database. Methods raise psycopg.Error when the database refuses."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, ids: Sequence[str] | None = None) -> list[ListedWebhook]:
        """List webhooks, the disabled and the failing ones first; all of them when `ids` is None."""
        rows = self._fetch(_LIST, ids=None if ids is None else list(ids))
        return [
            ListedWebhook(id_, app_id, _shown(url or ""), events or [], *rest)
            for id_, app_id, url, events, *rest in rows
        ]

    def enable(self, ids: Sequence[str]) -> set[str]:
        """Switch webhooks on with a clean record; returns the ids of those that were off."""
        return {id_ for (id_,) in self._fetch(_ENABLE, ids=list(ids))}

    def count(self, webhook: str, states: Sequence[str], since: datetime | None) -> int:
        """Count the deliveries of a webhook that are in one of `states` and were created at `since` or later."""
        return int(self._fetch(_COUNT, webhook=webhook, states=list(states), since=since, before=self._now())[0][0])

    def replay(
        self,
        webhook: str,
        states: Sequence[str],
        since: datetime | None,
        on_progress: Callable[[int], object] = lambda _number: None,
    ) -> int:
        """Send the deliveries that `count` counts again, each under its old webhook-id and with its attempts anew; returns how many.

        `on_progress` is told the number after each batch. Batches that are done stay done when this is interrupted.
        Deliveries that somebody has locked are left out.
        """
        done, before, number = 0, self._now(), _BATCH
        while number == _BATCH:
            [(number, last)] = self._fetch(
                _REPLAY, webhook=webhook, states=list(states), since=since, before=before, batch=_BATCH
            )
            done += number
            since = last or since
            on_progress(done)
        return done

    def _now(self) -> datetime:
        now: datetime = self._fetch(b"SELECT clock_timestamp()")[0][0]
        return now

    def _fetch(self, query: bytes, **params: Any) -> list[tuple[Any, ...]]:
        return fetch(self._connection, query, params, seconds=_LIMIT)


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "an unreadable address"
