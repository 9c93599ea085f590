"""Expiry: notifications past their `expires_at` become `expired` in `notification_state`.

What is due is found by an index that holds nothing else, taken in batches with SKIP LOCKED, and marked when none of its states
is open any more. Runs may be side by side, in one process or several: each takes what the others do not hold. What somebody
else holds locked is left for the next run, and nobody waits for anybody. sql/0007_archival.sql has the statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import make_conninfo

from jobqueue.kernel.database.limited import fetch
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

# Seconds that one batch may take, and that connecting may.
_LIMIT: Final = 15.0
_CONNECT_SECONDS: Final = 5

# Notifications of one batch, however large batches are to be: a statement of more would outlast its limit.
_MOST: Final = 20_000

_EXPIRE: Final = b"""
SELECT seen, expired, again, last_at::text, last_id
FROM jobqueue.expire_notifications(%(batch)s, %(after_at)s, %(after_id)s)"""


@dataclass(slots=True)
class Expired:
    """What a run did: states that became `expired`, and whether time was up before all that was due had been looked at."""

    number: int = 0
    more: bool = False

    @property
    def message(self) -> str:
        """The same in a sentence."""
        return f"Expired {self.number} notifications" + ("; more are due" if self.more else "")


class NotificationExpiry:
    """Expires notifications in batches of `batch_size`. Safe to run from several threads and processes at once."""

    def __init__(self, conninfo: str, batch_size: int) -> None:
        self._conninfo = make_conninfo(
            conninfo, application_name="jobqueue:expiry", connect_timeout=str(_CONNECT_SECONDS)
        )
        self._batch = min(batch_size, _MOST)

    def run(self, proceed: Callable[[], bool], done: Expired | None = None) -> Expired:
        """Expire what is due until none is left or `proceed()`, asked before each batch, says no; returns `done`.

        `done` is brought up to date after every batch. What was expired stays so when this ends early, by whatever
        `proceed` raises or psycopg.Error.
        """
        done = Expired() if done is None else done
        after: tuple[str | None, Any] = (None, None)
        with psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None) as connection:
            # States that others change meanwhile are looked at again, and cost no batch, whatever the database's default is.
            connection.isolation_level = IsolationLevel.READ_COMMITTED
            while True:
                if not proceed():
                    done.more = True
                    break
                params = {"batch": self._batch, "after_at": after[0], "after_id": after[1]}
                seen, expired, again, last_at, last_id = fetch(connection, _EXPIRE, params, seconds=_LIMIT)[0]
                done.number += expired
                if again:
                    # More states of the same notifications are open than one batch takes.
                    continue
                if seen < self._batch:
                    break
                after = (last_at, last_id)
        log.info("notifications_expired", states=done.number, more=done.more)
        return done
