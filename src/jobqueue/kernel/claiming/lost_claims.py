"""Claims that nobody here will run: their answer was lost on the way, or came after the order to stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from psycopg import errors

from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from uuid import UUID

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.store import Store

log = get_logger(__name__)

# Seconds between two attempts to give back a claim whose jobs somebody else's open transaction holds up.
_EVERY = 2.0


class LostClaims:
    """Gives the jobs of such claims back, if there are any: whether the claim was committed is not known."""

    def __init__(self) -> None:
        self._claims: list[tuple[Store, UUID]] = []
        self._at = 0.0

    def add(self, store: Store, token: UUID) -> None:
        self._claims.append((store, token))

    def give_back(self, link: Link) -> None:
        """Give back what can be now. Raises psycopg's errors; what was not given back is tried again."""
        if not self._claims:
            return
        now = time.monotonic()
        while self._claims and now >= self._at:
            store, token = self._claims[-1]
            try:
                released = store.release_claim(link, token)
            except errors.LockNotAvailable:
                # A host is enqueuing a twin of one of them, which says nothing about other jobs.
                self._at = now + _EVERY
                return
            self._claims.pop()
            if released:
                log.info("claim_given_back", queue=store.description.name, jobs=released)
