"""Records of deliveries besides their state, and the sums on app_webhooks.

Each attempt is a row of a table of its own, written in the transaction that records its outcome. About once a second the rows are
added up. So deliveries of one webhook that end at the same time do not wait for each other at the webhook's row
(sql/0005_events.sql, jobqueue.tally_webhooks).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg

from jobqueue.database_session import connect
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from jobqueue.kernel import Context
    from jobqueue.kernel.database.link import Link
    from jobqueue.webhooks.fairness import Call

log = get_logger(__name__)

# Failures in a row after which a webhook is disabled.
MOST_FAILURES: Final = 100

# How the message of a delivery that was put off begins. Only these are called back, not those that wait for another attempt.
PUT_OFF: Final = "put off: "

# Seconds that the last sums of a process may take.
_LAST_SECONDS: Final = 5.0

# out: the columns of Receiver.
_FIND_RECEIVER: Final = """
SELECT CASE WHEN w.id IS NOT NULL THEN coalesce(w.webhook_url, '') END AS url, w.webhook_secret AS secret,
       coalesce(w.is_active, false) AS active, w.disabled_reason, coalesce(w.consecutive_failures, 0) AS failures,
       w.last_success_at IS NOT NULL AS proven,
       coalesce(d.payload::text, (SELECT jobqueue.event_payload(e)::text
                                  FROM public.platform_events AS e WHERE e.id = d.event_id)) AS payload
FROM public.webhook_deliveries AS d LEFT JOIN public.app_webhooks AS w ON w.id = d.webhook_id
WHERE d.id = %(id)s"""

_NOTE_ATTEMPT: Final = b"""
WITH kept AS (
    UPDATE public.webhook_deliveries
    SET status_code = %(status)s, response_body = %(body)s, response_time_ms = %(milliseconds)s
    WHERE id = %(delivery)s)
INSERT INTO jobqueue.webhook_attempts (webhook_id, succeeded, reason)
VALUES (%(webhook)s, %(reason)s::text IS NULL, %(reason)s)"""

_DISABLE_WEBHOOK: Final = b"""
UPDATE public.app_webhooks SET is_active = false, disabled_reason = %(reason)s, updated_at = now()
WHERE id = %(webhook)s AND is_active"""

_CALL_BACK: Final = b"""
UPDATE public.webhook_deliveries SET run_after = clock_timestamp()
WHERE id = ANY (ARRAY(
    SELECT d.id FROM public.webhook_deliveries AS d
    WHERE d.webhook_id = %(webhook)s AND (d.status = 'pending') IS TRUE AND d.position IS NULL
      AND d.run_after > clock_timestamp() AND d.error_message LIKE %(mark)s
    ORDER BY d.run_after LIMIT %(number)s
    FOR NO KEY UPDATE SKIP LOCKED))"""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a delivery goes and what it carries. `url` is None when its webhook is gone, `payload` when there is none.

    `failures` are the webhook's in a row; `proven` says whether it has ever answered well.
    """

    url: str | None
    secret: str | None
    active: bool
    disabled_reason: str | None
    failures: int
    proven: bool
    payload: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended: `reason` says why it failed, None that it did not. `gone` disables the webhook."""

    webhook: Any
    delivery: Any
    reason: str | None = None
    status: int | None = None
    body: str | None = None
    seconds: float | None = None
    gone: bool = False

    def without_answer(self) -> Attempt:
        """What is left where the columns for the answer have no room for it."""
        return replace(self, body=None, seconds=None, reason=self.reason and self.reason[:40])


def find_receiver(context: Context) -> Receiver:
    """Read what the job's delivery needs. The payload is read as text: a number in it stays as it was written."""
    rows = context.read(_FIND_RECEIVER, {"id": context.job.id})
    return Receiver(*(rows[0] if rows else (None, None, False, None, 0, False, None)))


def note(cursor: psycopg.Cursor[Any], attempt: Attempt) -> None:
    """Record an attempt, in the transaction of `cursor`, which also disables a webhook that is gone."""
    cursor.execute(
        _NOTE_ATTEMPT,
        {
            "status": attempt.status,
            "body": attempt.body,
            "milliseconds": None if attempt.seconds is None else round(attempt.seconds * 1000),
            "delivery": attempt.delivery,
            "webhook": attempt.webhook,
            "reason": attempt.reason,
        },
    )
    if attempt.gone:
        cursor.execute(_DISABLE_WEBHOOK, {"webhook": attempt.webhook, "reason": attempt.reason})


def call_back(cursor: psycopg.Cursor[Any], call: Call) -> int:
    """Make deliveries of one webhook that were put off due now, the earliest first; returns how many. Waits for no lock."""
    cursor.execute(_CALL_BACK, {"webhook": call.webhook, "number": call.number, "mark": f"{PUT_OFF}%"})
    return cursor.rowcount


def tally(link: Link) -> None:
    """Add attempts up, and disable webhooks that failed too often in a row."""
    link.fetch(b"SELECT jobqueue.tally_webhooks(%(most)s)", {"most": MOST_FAILURES})


def cancel(link: Link) -> None:
    """Cancel deliveries that wait although their webhook has been disabled."""
    link.fetch(b"SELECT jobqueue.cancel_deliveries()")


def tally_last(conninfo: str) -> None:
    """Add up the attempts that this process recorded last. When the database is away, another process does so later."""
    try:
        with connect(conninfo, "tally", autocommit=False, connect_timeout=2) as connection:
            connection.execute("SELECT set_config('statement_timeout', %s, true)", [str(int(_LAST_SECONDS * 1000))])
            connection.execute(b"SELECT jobqueue.tally_webhooks(%s)", [MOST_FAILURES])
    except psycopg.Error as error:
        log.warning("webhook_records_left", error=str(error).strip())


def keep_limit(link: Link, max_retries: int) -> None:
    """Give deliveries whose row names no limit one of `max_retries` retries."""
    link.fetch(b"SELECT jobqueue.limit_deliveries(%(most)s)", {"most": max_retries})
