"""While a transaction pins a snapshot, the index entries of whatever has changed since stay: hundreds of thousands here.

What the kernel does all the time walks none of them twice.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from tests.plans.helpers import Scene, empty_scene
from tests.support.servers import BULK

from jobqueue.kernel.claiming.lanes import Lanes
from jobqueue.kernel.database.link import Link
from jobqueue.kernel.database.rows import LaneFloors
from jobqueue.kernel.database.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = pytest.mark.slow

DONE = 200_000
PROMOTED = 50_000

_CLAIM: dict[str, Any] = {"token": uuid4(), "worker": "w", "lease": 1e6}


@pytest.fixture(scope="module")
def pinned(postgres: Postgres) -> Iterator[Scene]:
    """Jobs done by the hundred thousand since the snapshot was taken, and some more that were promoted."""
    with empty_scene(postgres, "plans_pinned") as found, psycopg.connect(postgres.dsn_of("plans_pinned")) as pin:
        with found.filling():
            found.add(leased=1_000, due=DONE + 5_000, ripe=PROMOTED)
        found.connection.execute(b"ANALYZE jobs")
        pin.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        pin.execute(b"SELECT count(*) FROM jobs LIMIT 1")
        first = found.connection.execute(b"SELECT min(position) FROM jobs").fetchall()[0][0]
        done = f"position < {first + DONE}"
        with found.without_triggers():
            found.connection.execute(
                f"{BULK}UPDATE jobs SET position = nextval('jobqueue.position') WHERE status = 'pending' AND position IS NULL".encode()
            )
            # As a claim does; half of these leases would have run out by now.
            found.connection.execute(
                f"""{BULK}UPDATE jobs SET status = 'processing', lease_token = gen_random_uuid(), locked_by = 'w',
                       lease_expires_at = now() + (position - {first + DONE // 2}) * interval '1 ms'
                    WHERE {done}""".encode()
            )
            found.connection.execute(
                f"{BULK}UPDATE jobs SET status = 'completed', lease_expires_at = NULL, completed_at = now() WHERE {done}".encode()
            )
        yield found


@pytest.fixture(scope="module")
def lanes(pinned: Scene, postgres: Postgres) -> Lanes:
    """What a claimer knows that has claimed a batch in each lane, and has looked around since."""
    lanes, store = Lanes(), Store(pinned.description)
    with closing(Link(postgres.dsn_of("plans_pinned"), "plans")) as link:
        for _ in range(4):
            before = lanes.survey_from()
            look = store.survey(link, before, lanes.gaps())
            lanes.surveyed(before[0], look.heads, look.found, look.oldest_running)
            if lanes.wants_mark:
                lanes.mark(look.last_position, store.mark(link))
        for priority in lanes.claim_from()[0]:
            leased = store.claim(link, LaneFloors([priority], [0]), 10, uuid4(), "w", 1e6)
            lanes.claimed(priority, leased[0].position)
    assert lanes.claim_from()[0] == [6, 5, 4]
    return lanes


def _pairs(of: LaneFloors) -> dict[str, Any]:
    return of._asdict()


@pytest.mark.extended
@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("limit", [1, 50, 1000])
def test_a_claim_starts_from_a_floor(pinned: Scene, lanes: Lanes, limit: int, generic: bool) -> None:
    floors = _pairs(lanes.claim_from())
    from_floor = pinned.explain("claim_jobs", {**_CLAIM, **floors}, limit=limit, generic=generic)
    from_zero = pinned.explain("claim_jobs", {**_CLAIM, **floors, "floors": [0] * 3}, limit=limit, generic=generic)
    assert from_floor.changed == from_zero.changed == limit
    assert not from_floor.sorts, str(from_floor)
    # The slack of a thousand positions, of which a third were in this lane, and what is claimed.
    assert from_floor.pages_of("jobs_claim") < 60 + limit // 8, str(from_floor)
    assert from_floor.pages < 150 + 26 * limit, str(from_floor)
    # That much is saved; it is what a process pays once, when it starts.
    assert from_zero.pages_of("jobs_claim") > 1_500, str(from_zero)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
def test_a_survey_starts_from_the_safe_floors(pinned: Scene, lanes: Lanes, generic: bool) -> None:
    gaps = lanes.gaps()._asdict()
    plan = pinned.explain("survey_queue", {**_pairs(lanes.survey_from()), **gaps}, generic=generic)
    assert plan.pages_of("jobs_claim") < 100, str(plan)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
def test_what_was_promoted_is_not_walked_again(pinned: Scene, lanes: Lanes, generic: bool) -> None:
    gaps = lanes.gaps()._asdict()
    look = {**_pairs(lanes.survey_from()), **gaps}
    plan = pinned.explain("survey_queue", {**look, "back": 0.0}, generic=generic)
    assert plan.pages_of("jobs_delayed") < 100, str(plan)
    # That much is saved; it is what is paid every two minutes.
    all_the_way = pinned.explain("survey_queue", look, generic=generic)
    assert all_the_way.pages_of("jobs_delayed") > 200, str(all_the_way)


@pytest.mark.extended
@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize(
    "name",
    [
        "rescue_jobs",
        "lease_orphans",
    ],
)
def test_leases_that_are_over_are_not_walked_again(pinned: Scene, name: str, generic: bool) -> None:
    plan = pinned.explain(name, {"lease": 0.0, "back": 0.0, "gone": []}, generic=generic)
    assert plan.pages < 100, str(plan)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("name", ["complete_jobs", "release_jobs", "renew_leases", "hold_job"])
def test_a_holder_pays_for_its_own_jobs(pinned: Scene, name: str, generic: bool) -> None:
    held = {"ids": pinned.ids[:50], "tokens": pinned.tokens[:50], "id": pinned.ids[0], "token": pinned.tokens[0]}
    plan = pinned.explain(name, {**held, "lease": 1e6}, generic=generic)
    assert plan.pages < 100 + 36 * 50, str(plan)
