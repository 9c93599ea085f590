"""A queue's table as it is in a given situation, and the kernel's statements explained on it."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from tests.plans.plan import Plan
from tests.support.servers import BULK

from jobqueue.admin.selection import render_statement
from jobqueue.kernel.database.link import BY_INDEX, Link
from jobqueue.kernel.database.statements import COUNT_CAP, Description, Statements
from jobqueue.kernel.database.store import describe
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from jobqueue.demo.embedded_postgres import Postgres

Connection = psycopg.Connection[tuple[Any, ...]]

# Columns and what is written to them, for the n-th row. The triggers are off: positions are drawn here.
_KINDS = {
    "completed": ("status, completed_at, priority", "'completed', now() - n * interval '1 ms', 4 + n % 3"),
    "due": ("position, priority", "nextval('jobqueue.position'), 4 + n % 3"),
    "delayed": ("run_after, priority", "now() + n * interval '1 min', 4 + n % 3"),
    # Their time has come and nobody has promoted them yet.
    "ripe": ("run_after, priority", "now() - n * interval '1 s', 4 + n % 3"),
    "suspect": ("crash_count, run_after", "2, now() - n * interval '1 s'"),
    "failed": ("status, completed_at", "'failed', now() - n * interval '1 min'"),
    "orphan": ("status", "'processing'"),
    "expired": (
        "status, lease_token, lease_expires_at, locked_by",
        "'processing', gen_random_uuid(), now() - n * interval '1 s', 'w'",
    ),
    "leased": (
        "status, lease_token, lease_expires_at, locked_by",
        "'processing', gen_random_uuid(), now() + n * interval '1 h', 'w'",
    ),
}

# What every queue has besides: some jobs in each of the other states, more than one statement takes.
_OTHERS = {"failed": 2_000, "orphan": 600, "expired": 1_000, "leased": 1_000, "suspect": 5, "ripe": 2_000}

# What a guarded statement may take, in milliseconds: a plan that is far off is not waited for.
_LONGEST = 4_000

# Few: what is due at a quiet time.
_FEW = 5_000


# The first version that restores statistics by functions.
_RESTORES = 180_000

_STATISTICS = ("name", "nulls", "width", "distinct", "common", "frequencies", "bounds", "correlation")

# Of a column: the kinds are its most common values (1, with =), a histogram of the others (2, with <), and how far its order is
# that of the table (3, with <).
_STATISTIC = b"""
INSERT INTO pg_statistic
SELECT a.attrelid, a.attnum, false, %(nulls)s::real, %(width)s::int, %(distinct)s::real,
       (%(common)s::text IS NOT NULL)::int, 2 * (%(bounds)s::text IS NOT NULL)::int, 3 * (%(correlation)s::real IS NOT NULL)::int, 0, 0,
       eq.oid, lt.oid, lt.oid, 0, 0, a.attcollation, a.attcollation, a.attcollation, 0, 0,
       %(frequencies)s::real[], NULL, ARRAY[%(correlation)s::real], NULL, NULL,
       CASE WHEN %(common)s::text IS NOT NULL THEN array_in(textout(%(common)s::text), a.atttypid, a.atttypmod) END,
       CASE WHEN %(bounds)s::text IS NOT NULL THEN array_in(textout(%(bounds)s::text), a.atttypid, a.atttypmod) END, NULL, NULL, NULL
FROM pg_attribute AS a
JOIN pg_opclass AS class ON class.opcintype = CASE WHEN a.atttypid = 'varchar'::regtype THEN 'text'::regtype ELSE a.atttypid END
    AND class.opcdefault AND class.opcmethod = (SELECT oid FROM pg_am WHERE amname = 'btree')
JOIN pg_amop AS eqop ON eqop.amopfamily = class.opcfamily AND eqop.amoplefttype = class.opcintype
    AND eqop.amoprighttype = class.opcintype AND eqop.amopstrategy = 3
JOIN pg_amop AS ltop ON ltop.amopfamily = class.opcfamily AND ltop.amoplefttype = class.opcintype
    AND ltop.amoprighttype = class.opcintype AND ltop.amopstrategy = 1
JOIN pg_operator AS eq ON eq.oid = eqop.amopopr
JOIN pg_operator AS lt ON lt.oid = ltop.amopopr
WHERE a.attrelid = 'jobs'::regclass AND a.attname = %(name)s"""

# What lies outside the queue's own hands: an index of the host's on these columns (or none), and when the table was analyzed.
View = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Volume:
    """How many jobs a table holds."""

    completed: int
    due: int
    delayed: int


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What the planner knows of the table and its indexes: a copy of what ANALYZE left there at some moment."""

    relations: list[tuple[Any, ...]]
    columns: list[tuple[Any, ...]]

    @classmethod
    def read(cls, connection: Connection) -> Beliefs:
        relations = connection.execute(
            b"""SELECT c.relname, c.relpages, c.reltuples, c.relallvisible FROM pg_class AS c
                WHERE (c.oid = 'jobs'::regclass
                       OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'jobs'::regclass))
                  AND c.relname <> 'host_index'
                ORDER BY c.relname"""
        ).fetchall()
        columns = connection.execute(
            BULK.encode()
            + b"""SELECT attname, null_frac, avg_width, n_distinct, most_common_vals::text, most_common_freqs,
                       histogram_bounds::text, correlation
                FROM pg_stats WHERE schemaname = 'public' AND tablename = 'jobs'
                ORDER BY attname"""
        ).fetchall()
        return cls(relations, columns)

    @classmethod
    def analyze(cls, connection: Connection) -> Beliefs:
        connection.execute(b"ANALYZE jobs")
        return cls.read(connection)

    def write(self, connection: Connection) -> None:
        """Make the planner believe this, and nothing besides."""
        if connection.info.server_version >= _RESTORES:
            self._restore(connection)
        else:
            self._overwrite(connection)
        assert Beliefs.read(connection) == self

    def _restore(self, connection: Connection) -> None:
        connection.execute(
            b"""SELECT pg_clear_attribute_stats('public', 'jobs', attname, false) FROM pg_attribute
                WHERE attrelid = 'jobs'::regclass AND attnum > 0 AND NOT attisdropped"""
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                b"""SELECT pg_restore_relation_stats('schemaname', 'public', 'relname', %s::text, 'relpages', %s::int,
                                                     'reltuples', %s::real, 'relallvisible', %s::int)""",
                self.relations,
            )
            cursor.executemany(
                b"""SELECT pg_restore_attribute_stats(
                        'schemaname', 'public', 'relname', 'jobs', 'inherited', false, 'attname', %s::text,
                        'null_frac', %s::real, 'avg_width', %s::int, 'n_distinct', %s::real,
                        'most_common_vals', %s::text, 'most_common_freqs', %s::real[],
                        'histogram_bounds', %s::text, 'correlation', %s::real)""",
                self.columns,
            )

    def _overwrite(self, connection: Connection) -> None:
        """The same by the catalogue's own tables, of a server that has no functions for it."""
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(
                b"""UPDATE pg_class SET relpages = %(pages)s, reltuples = %(rows)s, relallvisible = %(visible)s
                    WHERE relname = %(name)s AND relnamespace = 'public'::regnamespace""",
                [dict(zip(("name", "pages", "rows", "visible"), relation, strict=True)) for relation in self.relations],
            )
            cursor.execute(b"DELETE FROM pg_statistic WHERE starelid = 'jobs'::regclass")
            cursor.executemany(_STATISTIC, [dict(zip(_STATISTICS, column, strict=True)) for column in self.columns])


@dataclass
class Scene:
    """A database with one queue on which statements are explained; `ids` and `tokens` are of jobs that are leased in it."""

    connection: Connection
    description: Description
    beliefs: dict[str, Beliefs] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)
    tokens: list[UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._statements = Statements(self.description, ("kind", "payload"))

    def explain(
        self, name: str, params: dict[str, Any], *, limit: int | None = None, keeping: bool = False, generic: bool
    ) -> Plan:
        """Run a statement and undo it; returns how it ran. Generic: planned as one that was prepared and has run often.

        Raises psycopg.errors.QueryCanceled when it takes too long.
        """
        query = self._statements.keeping(name).decode() if keeping else self.statement(name, limit)
        params = {"back": None, "ids": None, "patience": "500ms", **params}
        if not generic:
            return self._run(query.encode(), params)
        with self.prepared(query) as execute:
            return execute(params)

    def explain_text(self, query: str) -> Plan:
        """Run a host's statement and undo it; returns how it ran."""
        return self._run(query.encode())

    @contextmanager
    def prepared(self, query: str) -> Iterator[Callable[[dict[str, Any]], Plan]]:
        """A statement whose generic plan is made when it is first run, and is kept as long as it is valid."""
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)))
        numbered = re.sub(r"%\((\w+)\)s", lambda m: f"${names.index(m[1]) + 1}", query).replace("%%", "%")
        self.connection.execute(f"PREPARE guard AS {numbered}".encode())

        def execute(params: dict[str, Any]) -> Plan:
            call = "EXECUTE guard"
            if names:
                call += (
                    sql.SQL(" ({})").format(sql.SQL(", ").join(sql.Literal(params[n]) for n in names)).as_string(None)
                )
            return self._run(call.encode())

        try:
            yield execute
        finally:
            self.connection.execute(b"DEALLOCATE guard")

    def _run(self, query: bytes, params: dict[str, Any] | None = None) -> Plan:
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(f"SET LOCAL statement_timeout = {_LONGEST}".encode())
            self.connection.execute(b"SET LOCAL plan_cache_mode = force_generic_plan")
            rows = self.connection.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON, TIMING OFF) " + query, params)
            explained = rows.fetchall()[0][0][0]
            return Plan(explained["Plan"], compiled="JIT" in explained)

    @contextmanager
    def by_index(self) -> Iterator[None]:
        """A session as a worker's are where no pooler stands between."""
        self.connection.execute(BY_INDEX)
        yield
        for way in (b"sort", b"bitmapscan", b"seqscan"):
            self.connection.execute(b"RESET enable_" + way)

    def statement(self, name: str, limit: int | None = None) -> str:
        """The text of a statement of the worker's, or of the one that people's dashboards ask."""
        if name == "inspect_queue":
            return render_statement(name, self.description, cap=sql.Literal(COUNT_CAP + 1)).decode()
        if name == "claim_limited":
            assert limit is not None
            return self._statements.limited("claim_jobs", limit).decode()
        return self._statements(name, limit).decode()

    @contextmanager
    def seen(self, index: str | None, belief: str) -> Iterator[None]:
        """Give the host an index of its own on these columns, and the planner these beliefs, for as long as this lasts."""
        if index is not None:
            self.connection.execute(f"CREATE INDEX host_index ON jobs ({index})".encode())
        self.beliefs[belief].write(self.connection)
        yield
        self.connection.execute(b"DROP INDEX IF EXISTS host_index")

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Empty the table; what is added to it before this ends is not logged."""
        with self.connection.transaction():
            self.connection.execute(b"TRUNCATE jobs")
            yield
        held = self.connection.execute(
            b"SELECT id, lease_token FROM jobs WHERE status = 'processing' AND lease_expires_at > now() ORDER BY id"
        ).fetchall()
        self.ids, self.tokens = [id_ for id_, _ in held], [token for _, token in held]

    def add(self, **content: int) -> None:
        """Insert so many jobs of each kind, in this order."""
        with self.without_triggers():
            for kind, rows in content.items():
                columns, values = _KINDS[kind]
                self.connection.execute(
                    f"{BULK}INSERT INTO jobs (kind, {columns}) SELECT 'x', {values} FROM generate_series(1, {rows}) AS n".encode()
                )

    def add_from_elsewhere(self, **content: int) -> None:
        """The same on another connection: to insert without triggers makes a session forget its plans."""
        info = self.connection.info
        with psycopg.connect(info.dsn, password=info.password, autocommit=True) as other:
            replace(self, connection=other).add(**content)

    @contextmanager
    def without_triggers(self) -> Iterator[None]:
        with self.connection.transaction():
            self.connection.execute(b"SET LOCAL session_replication_role = replica")
            yield
            self.connection.execute(b"SET LOCAL session_replication_role = origin")


@contextmanager
def empty_scene(postgres: Postgres, name: str) -> Iterator[Scene]:
    """A migrated database called `name` whose queue is empty."""
    dsn = postgres.create_database(name)
    migrate(dsn)
    with closing(Link(dsn, "plans")) as link:
        description = describe(link, "jobs")
    # No statement is prepared but those that a test prepares: the driver would deallocate them with its own.
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(b"ALTER TABLE jobs SET (autovacuum_enabled = off)")
        # A scan would otherwise begin where the last one ended, and cost what chance will have it.
        connection.execute(b"SET synchronize_seqscans = off")
        yield Scene(connection, description)
    postgres.drop_database(name)


@contextmanager
def scene(postgres: Postgres, name: str, volume: Volume) -> Iterator[Scene]:
    """A queue of this volume, and what the planner would believe of it, had it been analyzed at one time or another."""
    with empty_scene(postgres, name) as scene:
        connection, beliefs = scene.connection, scene.beliefs
        beliefs["never"] = Beliefs.read(connection)
        beliefs["when empty"] = Beliefs.analyze(connection)
        with scene.filling():
            scene.add(due=volume.due)
            beliefs["when all were due"] = Beliefs.analyze(connection)
        # As a table grows: what is finished lies at its beginning, where a scan would find it first.
        with scene.filling():
            scene.add(completed=volume.completed)
            beliefs["when all were completed"] = Beliefs.analyze(connection)
            scene.add(due=_FEW)
            beliefs["when few were due"] = Beliefs.analyze(connection)
            scene.add(delayed=volume.delayed, **_OTHERS, due=volume.due)
        beliefs["now"] = Beliefs.analyze(connection)
        yield scene
