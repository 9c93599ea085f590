"""Claims whose jobs nobody here will run: the answer was lost on the way, or came after the order to stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from psycopg import errors

from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from uuid import UUID

    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.store import Store

log = get_logger(__name__)

# Seconds between two attempts to give back a claim while somebody else's open transaction holds its jobs up.
_EVERY = 2.0


class _LostClaim(NamedTuple):
    store: Store
    token: UUID


class LostClaims:
    """Gives the jobs of such claims back. There may be none: nobody here knows whether a lost claim was committed."""

    def __init__(self) -> None:
        self._claims: list[_LostClaim] = []
        self._at = 0.0

    def add(self, store: Store, token: UUID) -> None:
        self._claims.append(_LostClaim(store, token))

    def give_back(self, link: Link) -> None:
        """Give back what can be given back now; the rest is left for the next call. Raises psycopg's errors."""
        if not self._claims:
            return
        now = time.monotonic()
        while self._claims and now >= self._at:
            store, token = self._claims[-1]
            try:
                released = store.release_claim(link, token)
            except errors.LockNotAvailable:
                # A host keeps one of them locked, which says nothing about other jobs.
                self._at = now + _EVERY
                return
            self._claims.pop()
            if released:
                log.info("claim_given_back", queue=store.description.name, jobs=released)
