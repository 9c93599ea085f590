"""The two moments that PostgreSQL has and Python has not, and how they are written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NEVER: Final = datetime.max.replace(tzinfo=UTC)
"""What `infinity` is read as, and whatever lies after the year 9999, by the zone of the session that reads it."""

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
"""What `-infinity` is read as, and whatever lies before the year 1."""


def stamp(moment: datetime | None) -> str | None:
    """Give a time in UTC, as RFC 3339 has it, to the millisecond; a naive one counts as UTC.

    NEVER is `infinity` and LONG_AGO `-infinity`.
    """
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if aware in (NEVER, LONG_AGO):
        return "infinity" if aware == NEVER else "-infinity"
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
