"""Delivers webhooks: one signed POST a delivery, tried again until the receiver takes it or its attempts are used up.

A receiver that answers 2xx has taken it; 410 disables the webhook; 429 and 503 may say when to come again; all else is
tried again later and later. A delivery keeps its `webhook-id` over all attempts, so that a receiver can tell a repetition.
fairness.py decides which delivery goes when several want to; delivery_records.py writes down what happened.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import psycopg

from jobqueue.backoff import Backoff
from jobqueue.errors import Cancelled, Permanent, Retry, Snooze
from jobqueue.kernel import Chore, Queue
from jobqueue.observe.logging import get_logger
from jobqueue.version import __version__
from jobqueue.webhooks import delivery_records
from jobqueue.webhooks.delivery_records import PUT_OFF, Attempt
from jobqueue.webhooks.fairness import FairShare, PutOff
from jobqueue.webhooks.posting import Answer, NoAnswer, Poster
from jobqueue.webhooks.signing import BadSecret, keys, sign

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobqueue.errors import JobError
    from jobqueue.kernel import Context, Job
    from jobqueue.kernel.database.link import Link
    from jobqueue.net.address_guard import Guard
    from jobqueue.observe.metrics import Metrics
    from jobqueue.webhooks.delivery_records import Receiver
    from jobqueue.webhooks.fairness import Visit

log = get_logger(__name__)

QUEUE: Final = "webhook_deliveries"

STAGES: Final = ("request", "commit")

OUTCOMES: Final = (
    "delivered", "redirected", "rejected", "gone", "throttled", "failed", "timeout", "tls", "unreachable", "refused",
)  # fmt: skip
"""How an attempt can end: 2xx; 3xx; 4xx; 410; 429 or 503; 5xx; no answer in time; no trust; no connection; not called."""

# Seconds between two turns of each chore: attempts are added up, deliveries of disabled webhooks are cancelled, and deliveries
# without a limit of attempts get one.
_TALLY_EVERY: Final = 1.0
_CANCEL_EVERY: Final = 5.0
_LIMIT_EVERY: Final = 60.0

# Seconds between two attempts, at most.
_LONGEST: Final = 86_400.0


class Webhooks:
    """The handler of `webhook_deliveries`, with what it works with. Safe to call from many threads.

    Before retry n, counted from 1, lie `backoff_base` to the power of n seconds, or down to half of that. `slots` is the
    number of jobs that the process may run at once.
    """

    def __init__(
        self,
        guard: Guard,
        metrics: Metrics,
        *,
        conninfo: str,
        slots: int,
        max_retries: int,
        backoff_base: float,
    ) -> None:
        self._poster = Poster(guard, connections=slots)
        self._fair = FairShare(slots)
        self._conninfo = conninfo
        self._max_retries = max_retries
        self._backoff = Backoff(first=backoff_base, longest=_LONGEST, growth=backoff_base, jitter=0.5)
        self._metrics = metrics
        for outcome in OUTCOMES:
            metrics.webhook_deliveries.labels(outcome)

    def queue(self) -> Queue:
        """The queue to give to a worker."""
        return Queue(
            QUEUE,
            self.deliver,
            columns=("webhook_id",),
            chores=(
                Chore("webhook_limit", _LIMIT_EVERY, self._keep_limit),
                Chore("webhook_tally", _TALLY_EVERY, delivery_records.tally),
                Chore("webhook_cancel", _CANCEL_EVERY, delivery_records.cancel),
            ),
            keep_attempts="all",
        )

    def deliver(self, job: Job, context: Context) -> None:
        """Make one attempt at a delivery.

        Raises Snooze when it is not the webhook's turn, Cancelled when the webhook is disabled or gone, Permanent where no
        further attempt can help, Retry for other failures, and what the context raises.
        """
        webhook = job.columns["webhook_id"]
        receiver = None
        if not self._fair.knows(webhook):
            receiver = delivery_records.find_receiver(context)
            self._fair.introduce(webhook, failures=receiver.failures, proven=receiver.proven)
        visit = self._fair.enter(webhook)
        if isinstance(visit, PutOff):
            raise Snooze(f"{PUT_OFF}{visit.reason}", visit.seconds)
        try:
            self._deliver(job, context, visit, receiver or delivery_records.find_receiver(context))
        finally:
            self._fair.leave(visit)

    def close(self) -> None:
        """Close connections that are kept open, and add up the attempts that were recorded last."""
        self._poster.close()
        delivery_records.tally_last(self._conninfo)

    def _deliver(self, job: Job, context: Context, visit: Visit, receiver: Receiver) -> None:
        if receiver.url is None or not receiver.active:
            self._fair.disabled(visit)
            if receiver.url is None:
                raise Cancelled("the webhook of this delivery no longer exists")
            raise Cancelled(f"the webhook is disabled: {receiver.disabled_reason or 'is_active is false'}")
        if receiver.payload is None:
            raise Permanent("the delivery has no payload, and its event no longer exists")
        attempt, failure = self._attempt(job, context, visit, receiver.url, receiver.secret, receiver.payload.encode())
        # The slot is as good as free: deliveries that are called back arrive after this one has left.
        self._fair.leave(visit)
        self._record(context, attempt, complete=failure is None)
        if failure is not None:
            raise failure

    def _attempt(
        self, job: Job, context: Context, visit: Visit, url: str, secret: str | None, body: bytes
    ) -> tuple[Attempt, JobError | None]:
        """Make the request; returns what to record, and what to raise when the receiver did not take it."""
        webhook, asked = job.columns["webhook_id"], None
        failure: JobError | None = None
        try:
            answer = self._post(job, context, url, secret, body)
        except NoAnswer as error:
            outcome, seconds = str(error.trouble), error.seconds
            failure = Permanent(str(error)) if outcome == "refused" else Retry(str(error), self._delay(job))
            attempt = Attempt(webhook, job.id, str(error), seconds=seconds)
        else:
            outcome, seconds = _outcome(answer.status), answer.seconds
            reason = None
            if outcome != "delivered":
                asked = answer.asked if outcome == "throttled" else None
                reason = f"the endpoint answered {answer.words}{f' and asks to wait {asked:.0f} s' if asked else ''}"
                failure = Retry(reason, self._delay(job) if asked is None else asked)
            if outcome == "gone":
                failure = Permanent(f"{reason}: the webhook was disabled")
            attempt = Attempt(
                webhook, job.id, reason, answer.status, answer.body, answer.seconds, gone=outcome == "gone"
            )
        self._metrics.webhook_deliveries.labels(outcome).inc()
        self._fair.ended(visit, succeeded=failure is None, seconds=seconds, asked=asked)
        return attempt, failure

    def _post(self, job: Job, context: Context, url: str, secret: str | None, body: bytes) -> Answer:
        try:
            secret_keys = keys(secret)
        except BadSecret as error:
            raise NoAnswer("refused", f"the endpoint is not called: {error}", 0.0) from None
        message_id = str(job.id)
        timestamp = int(time.time())
        headers: Mapping[str, str] = {
            "Content-Type": "application/json",
            "User-Agent": f"jobqueue/{__version__}",
            "Accept-Encoding": "identity",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secret_keys, message_id, timestamp, body),
        }
        context.checkpoint()
        with context.stage("request"):
            return self._poster.post(url, body, headers, context.checkpoint)

    def _record(self, context: Context, attempt: Attempt, *, complete: bool) -> None:
        """Record the attempt and call back others that were put off, in one transaction."""
        call = self._fair.call()
        found = 0

        def record(attempt: Attempt) -> None:
            def effects(cursor: psycopg.Cursor[object]) -> None:
                nonlocal found
                delivery_records.note(cursor, attempt)
                found = 0 if call is None else delivery_records.call_back(cursor, call)

            (context.commit if complete else context.write)(effects)

        with context.stage("commit"):
            try:
                record(attempt)
            except psycopg.DataError as error:
                # The host's columns have no room for it: what was delivered is not sent again for the sake of a text.
                log.warning("attempt_shortened", **context.job.log_fields(), error=str(error).strip())
                record(attempt.without_answer())
        if call is not None:
            self._fair.called(call, found)

    def _delay(self, job: Job) -> float:
        """Seconds before the next attempt."""
        return self._backoff.delay(job.attempt - 1)

    def _keep_limit(self, link: Link) -> None:
        delivery_records.keep_limit(link, self._max_retries)


def _outcome(status: int) -> str:
    match status:
        case HTTPStatus.GONE:
            return "gone"
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            return "throttled"
        case _ if status < HTTPStatus.OK:
            return "failed"
        case _ if status < HTTPStatus.MULTIPLE_CHOICES:
            return "delivered"
        case _ if status < HTTPStatus.BAD_REQUEST:
            return "redirected"
        case _ if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return "rejected"
        case _:
            return "failed"
