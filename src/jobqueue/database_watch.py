"""A statement that may take any time, on a server that may stop answering: another session tells the one from the other."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg

from jobqueue.database_session import connect, cut

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds between two questions to the server, and for which it may answer none of them.
_ASK_EVERY: Final = 15.0
_SILENCE: Final = 75.0

# Seconds within which a session has to begin.
_CONNECT: Final = 10


@contextmanager
def watched_from_elsewhere(connection: psycopg.Connection[Any], conninfo: str) -> Iterator[None]:
    """Cut `connection` when the server at `conninfo` has let nobody in for 75 seconds, for as long as the block takes.

    What waits for the connection then raises psycopg.OperationalError.
    """
    ended = threading.Event()

    def watch() -> None:
        answered_at = time.monotonic()
        while not ended.wait(_ASK_EVERY):
            with suppress(psycopg.Error), connect(conninfo, "watch", connect_timeout=_CONNECT):
                answered_at = time.monotonic()
            if time.monotonic() - answered_at > _SILENCE and not ended.is_set():
                cut(connection)

    threading.Thread(target=watch, name="jobqueue-database-watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
