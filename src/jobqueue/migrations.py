"""Brings a database to this version: numbered plain SQL, each file in a transaction of its own.

Several processes may migrate at once: each transaction takes an advisory lock that ends with it (a session's lock would
not survive a transaction pooler) and looks again at what has been applied. Each file is recorded with its checksum. A file
that was changed after it was applied stops everything, because then nobody can tell what the database holds.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import errors, sql
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from jobqueue.database_session import connect
from jobqueue.database_watch import watched_from_elsewhere
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from tenacity import RetryCallState

log = get_logger(__name__)

_LOCK = 0x6A6F6271_75657565  # "jobqueue"

# A migration that waits for somebody's lock makes everybody else wait behind it: it gives up soon and comes back.
_LOCK_TIMEOUT_MS = 3_000
_LOCK_ATTEMPTS = 20
_LOCK_PAUSE = 0.5

# Asking for it takes the right to create schemas, even where it is there already: somebody who has that right may have made it.
_SCHEMA = "CREATE SCHEMA IF NOT EXISTS jobqueue;"

_HISTORY = b"""
CREATE TABLE IF NOT EXISTS jobqueue.migrations (
    version    int PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""

_RIGHTS = b"""
SELECT current_user, current_database(), ours.oid IS NOT NULL, has_database_privilege(current_database(), 'CREATE'),
       has_schema_privilege(ours.oid, 'USAGE'), has_schema_privilege(ours.oid, 'CREATE'),
       has_schema_privilege(hosts.oid, 'CREATE')
FROM (VALUES (to_regnamespace('jobqueue')::oid)) AS ours (oid), (VALUES (to_regnamespace('public')::oid)) AS hosts (oid)
"""

# Columns that no insert of ours gives a value to, in tables into which triggers and functions of ours insert. A host's own
# trigger may give one.
_UNFILLED = b"""
SELECT a.attrelid::regclass::text, quote_ident(a.attname)
FROM (VALUES
    ('webhook_deliveries', '{webhook_id,event_id,event_type,payload}'),
    ('notification_state', '{notification_id,user_id,status,expired_at}'),
    ('jobs', '{kind,payload,schedule,tick_at,tick_slot,tick_until}')) AS t (name, given)
JOIN pg_attribute AS a ON a.attrelid = to_regclass('public.' || t.name)
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
  AND a.attname <> 'id' AND a.attname <> ALL (t.given::text[])
  AND (t.name = 'notification_state' OR a.attname <> ALL ('{status,priority,run_after,retry_count,max_retries,crash_count,created_at,updated_at}'))
  AND NOT EXISTS (SELECT FROM pg_trigger AS g
                  WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgname NOT LIKE 'jobqueue%'
                    AND g.tgtype & 1 = 1 AND g.tgtype & 2 = 2 AND g.tgtype & 4 = 4)
ORDER BY 1, a.attnum
"""


class MigrationError(Exception):
    """The database cannot be brought to this version. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of sql/: its number is the `version`, its text the `sql`, the SHA-256 of that in hex the `checksum`."""

    version: int
    name: str
    sql: str
    checksum: str


class _Applied(NamedTuple):
    """A migration as the database's history has it."""

    name: str
    checksum: str


def _folder() -> Traversable:
    packaged = files("jobqueue") / "migrations"
    # A checkout that runs in place has the files where the wheel takes them from.
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "sql"


def load() -> list[Migration]:
    """All migrations of this version, in order."""
    found = []
    for entry in _folder().iterdir():
        if entry.name.endswith(".sql"):
            number, _, name = entry.name.removesuffix(".sql").partition("_")
            text = entry.read_text(encoding="utf-8")
            found.append(Migration(int(number), name, text, hashlib.sha256(text.encode()).hexdigest()))
    return sorted(found, key=lambda migration: migration.version)


@dataclass(frozen=True, slots=True)
class _Rights:
    """What the role that migrates may do; `schema` is whether there is one called jobqueue."""

    role: str
    database: str
    schema: bool
    creates_schemas: bool
    uses_schema: bool | None
    creates_in_schema: bool | None
    creates_in_public: bool | None

    @classmethod
    def read(cls, connection: psycopg.Connection[Any]) -> _Rights:
        [row] = connection.execute(_RIGHTS).fetchall()
        return cls(*row)

    def check_reading(self) -> None:
        if self.schema and not self.uses_schema:
            self._refuse("may not use the schema jobqueue", "GRANT USAGE, CREATE ON SCHEMA jobqueue TO {role};")

    def check_writing(self) -> None:
        if not self.schema and not self.creates_schemas:
            self._refuse(
                "may not create the schema jobqueue",
                "GRANT CREATE ON DATABASE {database} TO {role}; or CREATE SCHEMA jobqueue AUTHORIZATION {role};",
            )
        if self.schema and not self.creates_in_schema:
            self._refuse(
                "may not create anything in the schema jobqueue", "GRANT USAGE, CREATE ON SCHEMA jobqueue TO {role};"
            )
        if not self.creates_in_public:
            self._refuse(
                "may not create anything in the schema public", "GRANT USAGE, CREATE ON SCHEMA public TO {role};"
            )

    def _refuse(self, what: str, grant: str) -> None:
        names = {"role": sql.Identifier(self.role), "database": sql.Identifier(self.database)}
        statement = sql.SQL(grant).format(**names).as_string(None)
        raise MigrationError(f"the role {self.role} {what}; who administers the database can mend that: {statement}")


def _applied(connection: psycopg.Connection[Any]) -> dict[int, _Applied]:
    _Rights.read(connection).check_reading()
    if connection.execute("SELECT to_regclass('jobqueue.migrations')").fetchone() == (None,):
        return {}
    rows = connection.execute("SELECT version, name, checksum FROM jobqueue.migrations").fetchall()
    return {version: _Applied(name, checksum) for version, name, checksum in rows}


def _check(migrations: list[Migration], applied: dict[int, _Applied]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    for version, (name, checksum) in sorted(applied.items()):
        migration = known.get(version)
        if migration is None:
            raise MigrationError(
                f"the database has migration {version:04d}_{name}, which this version of jobqueue does not know: "
                "it was migrated by a newer one; upgrade jobqueue"
            )
        if migration.checksum != checksum:
            raise MigrationError(
                f"migration {version:04d}_{name} was applied with other contents than this version's: "
                "install the version that applied it, or restore the file; migrations are never edited, only added"
            )
    return [migration for migration in migrations if migration.version not in applied]


def pending(conninfo: str) -> list[Migration]:
    """The migrations that the database lacks, in order.

    Raises MigrationError when its history does not fit this version, psycopg.OperationalError when it cannot be reached.
    """
    with connect(conninfo, "migrate") as connection:
        return pending_in(connection)


def pending_in(connection: psycopg.Connection[Any]) -> list[Migration]:
    """The same on a connection that is there, and as `pending` raises."""
    return _check(load(), _applied(connection))


def migrate(conninfo: str) -> list[Migration]:
    """Apply the migrations that are missing; returns those that this call applied. Several may do so at once.

    Raises MigrationError when the history does not fit or a file fails (nothing of that file is then applied),
    psycopg.OperationalError when the database cannot be reached, and psycopg.errors.ReadOnlySqlTransaction when it takes no
    writes.
    """
    done = []
    for migration in load():
        if _apply(conninfo, migration):
            log.info("migration_applied", version=migration.version, name=migration.name)
            done.append(migration)
    return done


def _apply(conninfo: str, migration: Migration) -> bool:
    """Apply one file unless somebody has, once the tables that it needs are free; returns whether this call did."""

    def warn(state: RetryCallState) -> None:
        if state.outcome is not None:
            error = str(state.outcome.exception()).strip()
            log.warning("migration_waits", version=migration.version, name=migration.name, error=error)

    held_up = (errors.LockNotAvailable, errors.DeadlockDetected)
    attempts = Retrying(
        retry=retry_if_exception_type(held_up),
        stop=stop_after_attempt(_LOCK_ATTEMPTS),
        wait=wait_fixed(_LOCK_PAUSE),
        before_sleep=warn,
        reraise=True,
    )
    try:
        return attempts(_apply_now, conninfo, migration)
    except held_up as error:
        raise MigrationError(
            f"migration {migration.version:04d}_{migration.name} could not lock a table: somebody holds it in a "
            "long transaction; find it in pg_stat_activity, end it, and run `jobqueue migrate` again"
        ) from error
    except (errors.OperationalError, errors.ReadOnlySqlTransaction):
        raise
    except psycopg.Error as error:
        raise MigrationError(
            f"migration {migration.version:04d}_{migration.name} failed and was undone: {_told(error)}"
        ) from error


def _told(error: psycopg.Error) -> str:
    """What the server says of an error, with the table, column, view or policy that is in the way."""
    told = error.diag.message_primary or str(error).strip()
    if error.diag.message_detail:
        told += f": {error.diag.message_detail}"
    if statement := re.search(r'^SQL statement "(ALTER TABLE .*)"$', error.diag.context or "", re.MULTILINE):
        told += f", in: {statement[1]}"
    hint = error.diag.message_hint
    if isinstance(error, errors.InsufficientPrivilege):
        hint = hint or "run it as the role that owns the tables, or as a member of it"
    return f"{told} ({hint})" if hint else told


def _apply_now(conninfo: str, migration: Migration) -> bool:
    # A migration takes as long as a host's tables are large, and waits for others that migrate.
    with (
        connect(conninfo, "migrate", autocommit=False, silence=None) as connection,
        watched_from_elsewhere(connection, conninfo),
    ):
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if migration not in _check(load(), _applied(connection)):
            return False
        _prepare(connection)
        connection.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
        connection.execute(migration.sql.replace(_SCHEMA, "").encode())
        connection.execute(
            "INSERT INTO jobqueue.migrations (version, name, checksum) VALUES (%s, %s, %s)",
            [migration.version, migration.name, migration.checksum],
        )
    return True


def _prepare(connection: psycopg.Connection[Any]) -> None:
    """Make the history, if there is none. Raises MigrationError when the role may not, or a host's table would not take
    the rows that are going to be inserted into it."""
    rights = _Rights.read(connection)
    rights.check_writing()
    unfilled = connection.execute(_UNFILLED).fetchall()
    if unfilled:
        columns = ", ".join(f"{table}.{column}" for table, column in unfilled)
        mend = " ".join(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL;" for table, column in unfilled)
        raise MigrationError(
            f"nothing was applied: every row that is inserted for an event, a notification or a schedule would fail, because "
            f"of columns that are NOT NULL and have no default: {columns}; mend it with {mend} or give them a default"
        )
    if not rights.schema:
        connection.execute(_SCHEMA.encode())
    connection.execute(_HISTORY)
