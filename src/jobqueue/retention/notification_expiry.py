"""Expiry: notifications past their `expires_at` become `expired` in `notification_state`.

An index that holds nothing else finds the notifications that are due. A run takes them in batches with SKIP LOCKED, and marks each
when none of its states is open any more. Any number of runs may go on at once, in one process or several: each takes what the
others do not hold, leaves what is locked for the next run, and waits for nobody. sql/0007_archival.sql has the statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobqueue.database_session import connect
from jobqueue.kernel.database.limited import fetch
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

# Seconds that one batch may take, for which the server may say nothing, and that connecting may take.
_LIMIT: Final = 15.0
_SILENCE: Final = 18.0
_CONNECT_SECONDS: Final = 5

# Notifications of one batch at most, whatever batch size is set: a statement with more would outlast its limit.
_MOST: Final = 20_000

# out: the columns of _Batch.
_EXPIRE: Final = b"""
SELECT seen, expired, again, last_at::text, last_id
FROM jobqueue.expire_notifications(%(batch)s, %(after_at)s, %(after_id)s)"""


class _Batch(NamedTuple):
    """What one statement did: notifications seen, states expired, whether more of their states are open, and the last place."""

    seen: int
    expired: int
    again: bool
    last_at: str | None
    last_id: Any


@dataclass(slots=True)
class Expired:
    """What a run did: `number` states became `expired`. `more` says whether time was up before all that was due was seen."""

    number: int = 0
    more: bool = False

    @property
    def message(self) -> str:
        """The same as a sentence."""
        return f"Expired {self.number} notifications" + ("; more are due" if self.more else "")


class NotificationExpiry:
    """Expires notifications in batches of `batch_size`. Safe to run from several threads and processes at once."""

    def __init__(self, conninfo: str, batch_size: int) -> None:
        self._conninfo = conninfo
        self._batch = min(batch_size, _MOST)

    def run(self, proceed: Callable[[], bool], done: Expired | None = None) -> Expired:
        """Expire what is due until none is left or `proceed()`, asked before each batch, says no; returns `done`.

        It brings `done` up to date after every batch. What it expired stays so when it ends early, by psycopg.Error or
        whatever `proceed` raises.
        """
        done = Expired() if done is None else done
        after: tuple[str | None, Any] = (None, None)
        with connect(self._conninfo, "expiry", connect_timeout=_CONNECT_SECONDS, silence=_SILENCE) as connection:
            while True:
                if not proceed():
                    done.more = True
                    break
                params = {"batch": self._batch, "after_at": after[0], "after_id": after[1]}
                batch = _Batch(*fetch(connection, _EXPIRE, params, seconds=_LIMIT)[0])
                done.number += batch.expired
                if batch.again:
                    # More states of the same notifications are open than one batch takes.
                    continue
                if batch.seen < self._batch:
                    break
                after = (batch.last_at, batch.last_id)
        log.info("notifications_expired", states=done.number, more=done.more)
        return done
