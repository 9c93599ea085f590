"""Completes the names of queues, schedules and kinds at the shell. It gives up soon, and is silent about whatever is wrong."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds for a statement, and for the server to answer at all: somebody has pressed a key and waits.
_LIMIT = 0.3
_SILENCE = 1.0

_QUEUES = b"SELECT name FROM jobqueue.queues WHERE starts_with(name, %(start)s) ORDER BY 1 LIMIT 100"

_SCHEDULES = b"""
SELECT name FROM public.schedules WHERE removed_at IS NULL AND starts_with(name, %(start)s) ORDER BY 1 LIMIT 100"""

# Of jobs and of schedules: the kinds of jobs that have ended are in no index.
_KINDS = b"""
SELECT kind FROM public.schedules WHERE starts_with(kind, %(start)s)
UNION
(SELECT kind FROM public.jobs
 WHERE (status = 'pending') IS TRUE AND position IS NOT NULL AND starts_with(kind, %(start)s) LIMIT 1000)
ORDER BY 1 LIMIT 100"""


def _names(query: bytes) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        # Whatever it is, the shell is no place to tell it.
        with suppress(Exception):
            from jobqueue.database_session import connect
            from jobqueue.kernel.database.limited import fetch
            from jobqueue.settings import load_settings

            conninfo = load_settings().conninfo
            with connect(conninfo, "completion", connect_timeout=2, silence=_SILENCE) as connection:
                found = fetch(connection, query, {"start": incomplete}, seconds=_LIMIT)
            return [name for (name,) in found if name.isprintable()]
        return []

    return complete


queue_names = _names(_QUEUES)
"""The queues whose names begin so."""

schedule_names = _names(_SCHEDULES)
"""The schedules whose names begin so."""

kind_names = _names(_KINDS)
"""The kinds of `jobs` that begin so."""
