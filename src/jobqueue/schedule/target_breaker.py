"""A breaker for each target, shared by all processes through the database: a target that fails again and again is left alone.

Five failures in a row open it for half a minute, and each failure after that for twice as long, up to a quarter of an
hour. When the time is up one call goes through, and the others wait for what becomes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobqueue.backoff import Backoff

if TYPE_CHECKING:
    import psycopg

    from jobqueue.kernel import Context

FAILURES: Final = 5
OPEN: Final = Backoff(first=30.0, longest=900.0, jitter=0.2)
"""How long a breaker stays open, by the number of times that it has opened before."""

# Seconds that the one call may take before another process may try.
_PROBE_SECONDS: Final = 45.0

# out: the columns of _Wait.
_WAIT: Final = """
SELECT greatest(0, extract(epoch FROM open_until - clock_timestamp()))::float8 AS seconds, open_until IS NOT NULL AS open
FROM jobqueue.breakers WHERE target = %(target)s"""

_PROBE: Final = """
UPDATE jobqueue.breakers SET open_until = clock_timestamp() + make_interval(secs => %(seconds)s), updated_at = now()
WHERE target = %(target)s AND open_until <= clock_timestamp()"""

# out: until when the breaker is open; NULL when it is closed.
_FAILED: Final = f"""
INSERT INTO jobqueue.breakers AS b (target, failures) VALUES (%(target)s, 1)
ON CONFLICT (target) DO UPDATE SET
    failures = b.failures + 1,
    trips = CASE WHEN b.failures + 1 >= %(failures)s THEN b.trips + 1 ELSE b.trips END,
    open_until = CASE WHEN b.failures + 1 >= %(failures)s THEN clock_timestamp() + make_interval(
        secs => {OPEN.in_sql("b.trips")}) END,
    updated_at = now()
RETURNING open_until"""  # noqa: S608 - the expression is ours

_WORKED: Final = "DELETE FROM jobqueue.breakers WHERE target = %(target)s"


class _Wait(NamedTuple):
    """Whether a breaker is `open`, and the seconds until it lets a call through."""

    seconds: float
    open: bool


def wait(context: Context, target: str) -> float:
    """Seconds until `target` may be called; 0 means now.

    While the breaker is open one caller gets 0, and must report with `failed` or `worked`.
    """
    rows = context.read(_WAIT, {"target": target})
    found = _Wait(*rows[0]) if rows else _Wait(0.0, open=False)
    if not found.open or found.seconds > 0:
        return found.seconds
    taken: list[int] = []

    def probe(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(_PROBE, {"target": target, "seconds": _PROBE_SECONDS})
        taken.append(cursor.rowcount)

    context.write(probe)
    return 0.0 if taken[-1] else _PROBE_SECONDS


def failed(cursor: psycopg.Cursor[Any], target: str) -> bool:
    """Note a call that failed through the target's fault; returns whether that opened the breaker."""
    values = {"target": target, "failures": FAILURES}
    row = cursor.execute(_FAILED, values).fetchone()
    return row is not None and row[0] is not None


def worked(cursor: psycopg.Cursor[Any], target: str) -> None:
    """Note a call that the target answered: everybody may call again."""
    cursor.execute(_WORKED, {"target": target})
