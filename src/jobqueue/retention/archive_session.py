"""The archival's connection. Each of its transactions says how values are written and how long a statement may take."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from jobqueue.database_session import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

_CONNECT_SECONDS: Final = 5

SECONDS: Final = 60.0
"""How long a statement may take, and how long the server waits for this client within a transaction."""

# Seconds beyond that after which a server that said nothing is given up.
_GRACE: Final = 5.0

PATIENCE: Final = 0.5
"""Seconds that a statement waits for somebody's lock: less than the server waits before it looks for a deadlock and ends one of
the two, which might be the other."""

# Local to the transaction: nothing is left behind on a pooled connection. The first makes the same row the same text wherever
# its times are read. The last decide how rows are found: those of one batch by indexes, even where the statistics are of
# yesterday and a hash over the whole table looks cheaper.
_SETTINGS: Final = b"""
SELECT set_config('TimeZone', 'UTC', true),
       set_config('statement_timeout', %(limit)s, true), set_config('idle_in_transaction_session_timeout', %(limit)s, true),
       set_config('lock_timeout', %(patience)s, true), set_config('max_parallel_workers_per_gather', '0', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true)"""


class Session:
    """One connection, open while it is entered. Entering raises psycopg.OperationalError when the server cannot be reached."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: Connection | None = None
        self._depth = 0

    def __enter__(self) -> Self:
        self._connection = connect(
            self._conninfo, "archival", connect_timeout=_CONNECT_SECONDS, silence=SECONDS + _GRACE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        self._connection.close()

    @contextmanager
    def transaction(self, *, discard: bool = False) -> Iterator[Connection]:
        """One transaction, or a part of the one that is open. `discard` undoes it at its end, whatever its state."""
        connection = self._connection
        assert connection is not None
        if self._depth:
            yield connection
            return
        with connection.transaction(force_rollback=discard):
            self._depth += 1
            try:
                values = {"limit": f"{SECONDS * 1000:.0f}ms", "patience": f"{PATIENCE * 1000:.0f}ms"}
                connection.execute(_SETTINGS, values)
                yield connection
            finally:
                self._depth -= 1
