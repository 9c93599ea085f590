"""Plans: what each statement of the kernel reads does not grow with the table, whatever the planner believes about it.

The statements run for real, in a transaction that is rolled back: 100,000 jobs completed, 50,000 due, 50,000 delayed, some
in progress. No scan of the table, no sort, and a bounded number of pages for each row.
"""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from jobqueue.kernel.lanes import Lanes
from jobqueue.kernel.link import Link
from jobqueue.kernel.statements import Description, Statements
from jobqueue.kernel.store import Store, describe
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.postgres import Postgres

Connection = psycopg.Connection[tuple[Any, ...]]

COMPLETED = "INSERT INTO jobs (kind, status, completed_at, priority) SELECT 'x', 'completed', now(), 4 + n % 3 FROM generate_series(1, 100000) AS n"
WAITING = """
    INSERT INTO jobs (kind, priority) SELECT 'x', 4 + n % 3 FROM generate_series(1, 50000) AS n;
    INSERT INTO jobs (kind, run_after) SELECT 'x', now() + n * interval '1 s' FROM generate_series(1, 50000) AS n;
    -- Half of the delayed have become due, as time does it: without an update that draws a position.
    SET session_replication_role = replica;
    UPDATE jobs SET run_after = run_after - interval '25000 s' WHERE status = 'pending' AND position IS NULL;
    INSERT INTO jobs (kind, status, lease_token, lease_expires_at, locked_by)
        SELECT 'x', 'processing', gen_random_uuid(), now() + (n - 200) * interval '1 h', 'w' FROM generate_series(1, 400) AS n;
    SET session_replication_role = origin;
"""

# What the planner knows: nothing; what was true before there was work; the truth; the truth, and a tempting index besides.
SCENARIOS = {
    "never analyzed": (COMPLETED, WAITING),
    "analyzed before the backlog": (COMPLETED, "ANALYZE jobs", WAITING),
    "fresh": (COMPLETED, WAITING, "ANALYZE jobs"),
    "a host's index on status": (COMPLETED, WAITING, "CREATE INDEX host_status ON jobs (status)", "ANALYZE jobs"),
    "a host's index, never analyzed": (COMPLETED, WAITING, "CREATE INDEX host_status ON jobs (status, created_at)"),
}


@dataclass
class Scene:
    """A database under one scenario, and 50 jobs that are held in it."""

    connection: Connection
    statements: Statements
    ids: list[int]
    tokens: list[Any]

    def explain(self, name: str, *, generic: bool, limit: int | None = None, **params: object) -> Plan:
        """Run a statement and undo it; returns how it ran, and the rows it changed."""
        query = self.statements(name, limit).decode()
        explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON, TIMING OFF)"
        with self.connection.transaction(force_rollback=True):
            if generic:
                # As a statement that has been prepared and run often: planned once, without its parameters.
                names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)))
                numbered = re.sub(r"%\((\w+)\)s", lambda m: f"${names.index(m[1]) + 1}", query).replace("%%", "%")
                self.connection.execute(f"PREPARE guard AS {numbered}".encode())
                self.connection.execute(b"SET LOCAL plan_cache_mode = force_generic_plan")
                arguments = sql.SQL(", ").join(sql.Literal(params[key]) for key in names)
                call = sql.SQL("EXECUTE guard ({})").format(arguments) if names else sql.SQL("EXECUTE guard")
                try:
                    answer = self.connection.execute(sql.SQL(explain + " {}").format(call)).fetchall()
                finally:
                    self.connection.execute(b"DEALLOCATE guard")
            else:
                answer = self.connection.execute(f"{explain} {query}".encode(), params).fetchall()
        found = answer[0][0]
        return Plan(cast("dict[str, Any]", (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]))


class Plan:
    """A plan that ran."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.nodes = list(self._walk(root))

    def _walk(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for child in node.get("Plans", []):
            yield from self._walk(child)

    def __str__(self) -> str:
        return "\n" + "\n".join(self._lines(self.root, ""))

    def _lines(self, node: dict[str, Any], indent: str) -> Iterator[str]:
        names = " ".join(
            str(node[key]) for key in ("Node Type", "Index Name", "Relation Name", "CTE Name") if key in node
        )
        pages = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
        detail = " ".join(f"[{key}: {node[key]}]" for key in ("Index Cond", "Filter", "Sort Key") if key in node)
        yield f"{indent}{names} rows={node['Actual Rows']} loops={node['Actual Loops']} pages={pages} {detail}"
        for child in node.get("Plans", []):
            yield from self._lines(child, indent + "  ")

    @property
    def pages(self) -> int:
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])

    def pages_of(self, index: str) -> int:
        nodes = [node for node in self.nodes if node.get("Index Name") == index]
        return sum(int(node["Shared Hit Blocks"] + node["Shared Read Blocks"]) for node in nodes)

    def check(self, pages: int, *, may_sort: bool = False) -> None:
        """The table is not scanned, a host's index is not tempting, nothing is sorted, and no more pages are touched."""
        assert not [
            node for node in self.nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jobs"
        ], str(self)
        assert not [node for node in self.nodes if node.get("Index Name", "").startswith("host_")], str(self)
        assert may_sort or not [node for node in self.nodes if "Sort" in node["Node Type"]], str(self)
        assert self.pages <= pages, str(self)


@pytest.fixture(scope="module", params=SCENARIOS)
def scene(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[Scene]:
    name = "plans_" + re.sub(r"\W", "_", request.param)
    dsn = postgres.create_database(name)
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(b"ALTER TABLE jobs SET (autovacuum_enabled = off)")
        for statement in SCENARIOS[request.param]:
            connection.execute(statement.encode())
        held = connection.execute(
            b"SELECT id, lease_token FROM jobs WHERE status = 'processing' ORDER BY lease_expires_at DESC LIMIT 50"
        ).fetchall()
        with closing(Link(dsn, "plans")) as link:
            statements = Statements(describe(link, "jobs"), ("kind", "payload"))
        yield Scene(connection, statements, [id_ for id_, _ in held], [token for _, token in held])
    postgres.drop_database(name)


@pytest.fixture(params=["custom", "generic"])
def generic(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "generic")


LANES: dict[str, Any] = {"priorities": [6, 5, 4], "floors": [0, 0, 0]}


@pytest.mark.parametrize("limit", [1, 50, 1000])
def test_claim(scene: Scene, generic: bool, limit: int) -> None:
    params: dict[str, Any] = {"token": uuid4(), "worker": "w", "lease": 60.0}
    # A claim changes its rows: their pages, and an entry in each index that they leave or enter.
    scene.explain("claim_jobs", generic=generic, limit=limit, **LANES, **params).check(200 + 30 * limit)


def test_claim_of_lanes_that_are_empty(scene: Scene, generic: bool) -> None:
    params: dict[str, Any] = {
        "priorities": [9, 8, 7],
        "floors": [0, 0, 0],
        "token": uuid4(),
        "worker": "w",
        "lease": 60.0,
    }
    scene.explain("claim_jobs", generic=generic, limit=50, **params).check(50)


def test_claim_of_a_suspect(scene: Scene, generic: bool) -> None:
    scene.explain("claim_suspect", generic=generic, token=uuid4(), worker="w", lease=60.0).check(50)


def test_survey(scene: Scene, generic: bool) -> None:
    gaps: dict[str, Any] = {"lows": [6, -(2**63)], "highs": [2**63 - 1, 4]}
    scene.explain("survey_queue", generic=generic, **LANES, **gaps).check(100)


@pytest.mark.parametrize("name", ["complete_jobs", "release_jobs", "renew_leases", "find_completed"])
def test_what_a_holder_writes(scene: Scene, generic: bool, name: str) -> None:
    scene.explain(name, generic=generic, ids=scene.ids, tokens=scene.tokens, lease=60.0).check(100 + 40 * 50)


@pytest.mark.parametrize("name", ["retry_jobs", "fail_jobs", "cancel_jobs", "snooze_jobs"])
def test_what_a_holder_writes_with_a_reason(scene: Scene, generic: bool, name: str) -> None:
    more: dict[str, Any] = {"delays": [1.0] * 50, "errors": ["x"] * 50}
    scene.explain(name, generic=generic, ids=scene.ids, tokens=scene.tokens, **more).check(100 + 40 * 50)


def test_hold(scene: Scene, generic: bool) -> None:
    scene.explain("hold_job", generic=generic, id=scene.ids[0], token=scene.tokens[0]).check(20)


def test_rescue(scene: Scene, generic: bool) -> None:
    plan = scene.explain("rescue_jobs", generic=generic, lease=0.0)
    # Leases that have run out are few: sorting them costs nothing.
    plan.check(500 + 40 * 200, may_sort=True)
    assert plan.root["Actual Rows"] >= 199


def test_promote(scene: Scene, generic: bool) -> None:
    scene.explain("promote_jobs", generic=generic).check(500 + 40 * 1_000)


@pytest.mark.parametrize("name", ["next_expiry", "lease_orphans"])
def test_what_the_keeper_asks_at_each_poll(scene: Scene, generic: bool, name: str) -> None:
    scene.explain(name, generic=generic, lease=60.0).check(30)


def test_giving_back_a_claim(scene: Scene, generic: bool) -> None:
    assert scene.explain("release_claim", generic=generic, token=uuid4()).pages <= 500


def test_measuring_counts_to_its_cap_and_no_further(scene: Scene, generic: bool) -> None:
    plan = scene.explain("measure_queue", generic=generic, **LANES)
    assert plan.pages < 45_000
    assert not [node for node in plan.nodes if node["Node Type"] == "Seq Scan" and node["Actual Rows"] > 10_001]


def test_dead_entries_behind_a_pinned_snapshot_are_not_walked_again(postgres: Postgres) -> None:
    """The reason for floors. A long transaction keeps 20,000 dead entries at the head of the claim index."""
    dsn = postgres.create_database("plans_pinned")
    migrate(dsn)
    link = Link(dsn, "plans")
    with psycopg.connect(dsn) as pin, psycopg.connect(dsn, autocommit=True) as connection, closing(link):
        connection.execute(b"ALTER TABLE jobs SET (autovacuum_enabled = off)")
        connection.execute(b"INSERT INTO jobs (kind) SELECT 'x' FROM generate_series(1, 22000)")
        pin.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        pin.execute(b"SELECT count(*) FROM jobs LIMIT 1")
        description: Description = describe(link, "jobs")
        store, lanes = Store(description), Lanes()
        lanes.surveyed([], [], [5], 0)
        for size in [1_000] * 19 + [100] * 10:
            leased = store.claim(link, lanes.claim_from(), size, uuid4(), "w", 60.0)
            assert len(leased) == size
            lanes.claimed(5, leased[0][0])
            assert len(store.complete(link, [job for _, job in leased])) == size
        scene = Scene(connection, Statements(description, ()), [], [])
        common: dict[str, Any] = {"token": uuid4(), "worker": "w", "lease": 60.0}
        priorities, floors = lanes.claim_from()
        from_floor = scene.explain("claim_jobs", generic=True, limit=10, priorities=priorities, floors=floors, **common)
        from_start = scene.explain("claim_jobs", generic=True, limit=10, priorities=[5], floors=[0], **common)
        # Above the floor lie the last batch and the slack of a thousand; below it everything else that is dead.
        assert from_floor.pages_of("jobs_claim") < 60
        assert from_start.pages_of("jobs_claim") > 8 * from_floor.pages_of("jobs_claim")
    postgres.drop_database("plans_pinned")
