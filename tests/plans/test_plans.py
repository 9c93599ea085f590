"""Small queues, each with much of one thing only: what lies in a statement's way there is not hidden by other things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.plans.guards import GUARDS, Guard, check_cost
from tests.plans.helpers import Scene, View, Volume, empty_scene, scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = pytest.mark.slow

VOLUMES = {
    "due": Volume(completed=0, due=50_000, delayed=0),
    "completed": Volume(completed=100_000, due=3_000, delayed=0),
    "delayed": Volume(completed=0, due=3_000, delayed=50_000),
}

VIEWS = (
    (None, "never"),
    (None, "now"),
    ("status", "now"),
    ("status, created_at", "never"),
)


@pytest.fixture(scope="module", params=VOLUMES)
def small(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[Scene]:
    with scene(postgres, f"plans_{request.param}", VOLUMES[request.param]) as found:
        yield found


@pytest.fixture(scope="module", params=VIEWS, ids=lambda view: f"{view[0]}-analyzed-{view[1]}")
def view(request: pytest.FixtureRequest, small: Scene) -> Iterator[View]:
    with small.seen(*request.param):
        yield request.param


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("guard", GUARDS, ids=str)
def test_pages_for_each_row_are_bounded(small: Scene, view: View, guard: Guard, generic: bool) -> None:
    guard.check(guard.run(small, generic=generic))


@pytest.mark.parametrize("guard", [guard for guard in GUARDS if not guard.may_sort], ids=str)
def test_no_way_that_a_workers_session_forbids_is_the_only_one(small: Scene, guard: Guard) -> None:
    """It would be taken for so costly that a server as it is distributed compiles the statement each time."""
    with small.by_index(), small.seen(None, "now"):
        plan = guard.run(small, generic=True)
    check_cost(plan)
    assert not plan.disabled, str(plan)


_CLAIM: dict[str, Any] = {
    "priorities": [6, 5, 4], "floors": [0] * 3, "token": uuid4(), "worker": "w", "lease": 60.0,
}  # fmt: skip


def test_a_plan_made_when_little_was_due_serves_a_backlog(postgres: Postgres) -> None:
    """A prepared statement keeps its plan until the table is next analyzed, however much is enqueued meanwhile."""
    with empty_scene(postgres, "plans_cached") as quiet:
        with quiet.filling():
            quiet.add(completed=50_000, due=600)
        quiet.connection.execute(b"ANALYZE jobs")
        with quiet.by_index(), quiet.prepared(quiet.statement("claim_jobs", 1000)) as claim:
            before = claim(_CLAIM)
            quiet.add_from_elsewhere(due=200_000)
            after = claim(_CLAIM)
        assert after.changed == 1000
        assert not after.sorts, str(after)
        assert after.pages / after.changed < 1.5 * before.pages / before.changed, str(after)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
def test_a_merge_reads_what_was_claimed_and_its_twins(postgres: Postgres, generic: bool) -> None:
    """Also with a host's index on the key, in which everything of that key lies that ever ended."""
    with empty_scene(postgres, "plans_twins") as scene:
        with scene.filling():
            scene.add(completed=100_000, due=20_000, leased=50)
            with scene.without_triggers():
                scene.connection.execute(
                    b"""WITH n AS (SELECT id, status, row_number() OVER (PARTITION BY status ORDER BY id) AS n FROM jobs)
                        UPDATE jobs AS j SET unique_key = 'k' || CASE n.status WHEN 'processing' THEN n.n / 2 ELSE n.n END
                        FROM n WHERE n.id = j.id"""
                )
        scene.connection.execute(b"CREATE INDEX ON jobs (unique_key); ANALYZE jobs")
        # It sorts a few rows, which a worker's session forbids: that costs so much by the planner's word that a server would
        # compile it, if the session did not say no to that as well.
        scene.connection.execute(b"SET jit = off")
        with scene.by_index():
            plan = scene.explain("merge_twins", {"ids": scene.ids, "tokens": scene.tokens}, generic=generic)
        # Of 50 that were claimed 24 give way to the other half of their pair, and so does each key's pending job.
        assert plan.changed == 24 + 25, str(plan)
        assert not plan.scans, str(plan)
        assert plan.pages < 100 + 50 * 40, str(plan)


def test_enqueuing_twins_finds_them_by_the_key(postgres: Postgres) -> None:
    """As many pages a row in a large table as in a small one."""
    with empty_scene(postgres, "plans_enqueue") as scene:
        query = "INSERT INTO jobs (kind, unique_key) SELECT 'x', 'k' || n FROM generate_series(1, 100) AS n"
        small = scene.explain_text(query)
        with scene.filling():
            scene.add(completed=100_000, due=50_000)
        assert scene.explain_text(query).pages < 3 * small.pages + 2_000


@pytest.mark.parametrize(
    ("name", "limit", "per_row"), [("claim_jobs", 50, 24), ("complete_jobs", None, 26), ("renew_leases", None, 30)]
)
def test_a_plan_made_when_the_table_was_new_serves_a_large_one(
    postgres: Postgres, name: str, limit: int | None, per_row: int
) -> None:
    """A worker is there before the first jobs are, and nobody may analyze the table for a while."""
    with empty_scene(postgres, "plans_new") as new, new.by_index(), new.prepared(new.statement(name, limit)) as run:
        run({**_CLAIM, "ids": [], "tokens": []})
        new.add_from_elsewhere(completed=100_000, due=1_000, leased=50)
        held = new.connection.execute(
            b"SELECT id, lease_token FROM jobs WHERE status = 'processing' ORDER BY id"
        ).fetchall()
        after = run({**_CLAIM, "ids": [id_ for id_, _ in held], "tokens": [token for _, token in held]})
        assert after.changed == 50
        assert not after.scans, str(after)
        assert after.pages < 100 + 50 * per_row, str(after)
