"""How fast the fleet works, measured on batches of jobs that cost nothing but what a job costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.helpers import Database


def measure(database: Database, batch: int, name: str) -> float:
    """Jobs a second of one batch called `name`, from the first one's start to the last one's end, by the database's clock."""
    # By their ids: to look through all jobs again and again would slow a fleet with a past down, and not a fresh one.
    before = database.rows("SELECT coalesce(max(id), 0) AS id FROM jobs")[0]["id"]
    ours = "id > %(before)s AND payload->>'batch' = %(name)s"
    database.rows(
        f"""
        INSERT INTO jobs (kind, payload) SELECT 'chaos', jsonb_build_object('how', 'noop', 'batch', %(name)s::text)
        FROM generate_series(1, %(batch)s)
        WHERE NOT EXISTS (SELECT FROM jobs WHERE {ours})
        """,
        before=before,
        name=name,
        batch=batch,
    )
    ended = f"SELECT count(*) AS n FROM jobs WHERE {ours} AND status = 'completed'"
    eventually(lambda: database.rows(ended, before=before, name=name)[0]["n"] == batch, 120, interval=0.2)
    [row] = database.rows(
        f"SELECT extract(epoch FROM max(completed_at) - min(started_at))::float8 AS seconds FROM jobs WHERE {ours}",
        before=before,
        name=name,
    )
    return float(batch / row["seconds"])
