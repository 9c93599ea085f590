"""A breaker for each target, shared by all processes through the database: one that fails again and again is left alone.

Five failures in a row open it for half a minute, and each failure after that for twice as long, up to a quarter of an
hour. When the time is up one call goes through, and the others wait for what becomes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobqueue.backoff import Backoff

if TYPE_CHECKING:
    import psycopg

    from jobqueue.kernel import Context

FAILURES: Final = 5
OPEN: Final = Backoff(first=30.0, longest=900.0, jitter=0.2)
"""How long it stays open, by the number of times that it has opened."""

# Seconds that the one call may take before another may try.
_PROBE_SECONDS: Final = 45.0

_WAIT = """
SELECT greatest(0, extract(epoch FROM open_until - clock_timestamp()))::float8, open_until IS NOT NULL
FROM jobqueue.breakers WHERE target = %(target)s"""

_PROBE = """
UPDATE jobqueue.breakers SET open_until = clock_timestamp() + make_interval(secs => %(seconds)s), updated_at = now()
WHERE target = %(target)s AND open_until <= clock_timestamp()"""

_FAILED = f"""
INSERT INTO jobqueue.breakers AS b (target, failures) VALUES (%(target)s, 1)
ON CONFLICT (target) DO UPDATE SET
    failures = b.failures + 1,
    trips = CASE WHEN b.failures + 1 >= %(failures)s THEN b.trips + 1 ELSE b.trips END,
    open_until = CASE WHEN b.failures + 1 >= %(failures)s THEN clock_timestamp() + make_interval(
        secs => {OPEN.in_sql("b.trips")}) END,
    updated_at = now()
RETURNING open_until"""  # noqa: S608 - the expression is ours

_WORKED = "DELETE FROM jobqueue.breakers WHERE target = %(target)s"


def wait(context: Context, target: str) -> float:
    """Seconds until `target` may be called; 0 when now. Who gets 0 of an open breaker makes the one call: tell what came of it."""
    rows = context.read(_WAIT, {"target": target})
    if not rows or not rows[0][1]:
        return 0.0
    seconds = float(rows[0][0])
    if seconds > 0:
        return seconds
    taken: list[int] = []

    def probe(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(_PROBE, {"target": target, "seconds": _PROBE_SECONDS})
        taken.append(cursor.rowcount)

    context.write(probe)
    return 0.0 if taken[-1] else _PROBE_SECONDS


def failed(cursor: psycopg.Cursor[Any], target: str) -> bool:
    """Note a call that failed for the target's sake; returns whether that opened the breaker."""
    values = {"target": target, "failures": FAILURES}
    row = cursor.execute(_FAILED, values).fetchone()
    return row is not None and row[0] is not None


def worked(cursor: psycopg.Cursor[Any], target: str) -> None:
    """Note a call that was answered: everybody may call again."""
    cursor.execute(_WORKED, {"target": target})
