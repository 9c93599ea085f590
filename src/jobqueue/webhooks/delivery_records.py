"""What is written about deliveries besides their state, and the sums on app_webhooks.

An attempt is noted in a table of its own, in the transaction that records it, and added up about once a second: deliveries of
one webhook that end at the same time do not wait for each other's row (sql/0005_events.sql, jobqueue.tally_webhooks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import IsolationLevel

from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from jobqueue.kernel import Context
    from jobqueue.kernel.database.link import Link
    from jobqueue.webhooks.fairness import Call

log = get_logger(__name__)

# Failures in a row after which a webhook is disabled.
MOST_FAILURES: Final = 100

# How the message of a delivery that was put off begins: only such are called back, not what waits for another attempt.
PUT_OFF: Final = "put off: "

# Seconds that the last sums of a process may take.
_LAST_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a delivery goes and what is sent. `url` is None when there is no such webhook, `payload` when there is none."""

    url: str | None
    secret: str | None
    active: bool
    disabled_reason: str | None
    failures: int
    proven: bool
    payload: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """The end of one attempt; `reason` says why it failed, and is None when it did not."""

    webhook: Any
    delivery: Any
    reason: str | None = None
    status: int | None = None
    body: str | None = None
    seconds: float | None = None
    gone: bool = False


def find_target(context: Context) -> Receiver:
    """Read what the job's delivery needs. The payload is taken as text: a number in it stays as it was written."""
    [row] = context.read(
        """
        SELECT CASE WHEN w.id IS NOT NULL THEN coalesce(w.webhook_url, '') END, w.webhook_secret, coalesce(w.is_active, false),
               w.disabled_reason, coalesce(w.consecutive_failures, 0), w.last_success_at IS NOT NULL,
               coalesce(d.payload::text, (SELECT jobqueue.event_payload(e)::text
                                          FROM public.platform_events AS e WHERE e.id = d.event_id))
        FROM public.webhook_deliveries AS d LEFT JOIN public.app_webhooks AS w ON w.id = d.webhook_id
        WHERE d.id = %(id)s
        """,
        {"id": context.job.id},
    ) or [(None, None, False, None, 0, False, None)]
    return Receiver(*row)


def note(cursor: psycopg.Cursor[Any], attempt: Attempt) -> None:
    """Write down an attempt, in the transaction of `cursor`; a webhook that is gone is disabled in it."""
    cursor.execute(
        """
        WITH kept AS (
            UPDATE public.webhook_deliveries
            SET status_code = %(status)s, response_body = %(body)s, response_time_ms = %(milliseconds)s
            WHERE id = %(delivery)s)
        INSERT INTO jobqueue.webhook_attempts (webhook_id, succeeded, reason)
        VALUES (%(webhook)s, %(reason)s::text IS NULL, %(reason)s)
        """,
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
        cursor.execute(
            """
            UPDATE public.app_webhooks SET is_active = false, disabled_reason = %(reason)s, updated_at = now()
            WHERE id = %(webhook)s AND is_active
            """,
            {"webhook": attempt.webhook, "reason": attempt.reason},
        )


def call_back(cursor: psycopg.Cursor[Any], call: Call) -> int:
    """Make deliveries of one webhook due that were put off, the earliest first; returns how many. Waits for nobody."""
    cursor.execute(
        """
        UPDATE public.webhook_deliveries SET run_after = clock_timestamp()
        WHERE id = ANY (ARRAY(
            SELECT d.id FROM public.webhook_deliveries AS d
            WHERE d.webhook_id = %(webhook)s AND (d.status = 'pending') IS TRUE AND d.position IS NULL
              AND d.run_after > clock_timestamp() AND d.error_message LIKE %(mark)s
            ORDER BY d.run_after LIMIT %(number)s
            FOR NO KEY UPDATE SKIP LOCKED))
        """,
        {"webhook": call.webhook, "number": call.number, "mark": f"{PUT_OFF}%"},
    )
    return cursor.rowcount


def tally(link: Link) -> None:
    """Add attempts up, and disable webhooks that failed too often in a row."""
    link.fetch(b"SELECT jobqueue.tally_webhooks(%(most)s)", {"most": MOST_FAILURES})


def cancel(link: Link) -> None:
    """End deliveries that are waiting although their webhook has been disabled."""
    link.fetch(b"SELECT jobqueue.cancel_deliveries()")


def tally_last(conninfo: str) -> None:
    """Add up what this process has noted last. When the database is away, another process does so later."""
    try:
        with psycopg.connect(conninfo, connect_timeout=2, prepare_threshold=None) as connection:
            # What another process has just added up must be seen, whatever the database's default is.
            connection.isolation_level = IsolationLevel.READ_COMMITTED
            connection.execute("SELECT set_config('statement_timeout', %s, true)", [str(int(_LAST_SECONDS * 1000))])
            connection.execute(b"SELECT jobqueue.tally_webhooks(%s)", [MOST_FAILURES])
    except psycopg.Error as error:
        log.warning("webhook_records_left", error=str(error).strip())


def keep_limit(link: Link, max_retries: int) -> None:
    """Have deliveries whose row names no limit be tried `max_retries` times."""
    link.fetch(b"SELECT jobqueue.limit_deliveries(%(most)s)", {"most": max_retries})
