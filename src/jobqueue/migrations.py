"""Brings a database to this version: numbered plain SQL, each file in a transaction of its own.

Several processes may migrate at once: each transaction takes an advisory lock that ends with it (a session's lock would
not survive a transaction pooler) and looks again at what has been applied. Each file is recorded with its checksum. A file
that was changed after it was applied stops everything, because then nobody can tell what the database holds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import IsolationLevel, errors
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

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

_HISTORY = b"""
CREATE SCHEMA IF NOT EXISTS jobqueue;
CREATE TABLE IF NOT EXISTS jobqueue.migrations (
    version    int PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


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


def _applied(connection: psycopg.Connection[Any]) -> dict[int, _Applied]:
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
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
        return _check(load(), _applied(connection))


def migrate(conninfo: str) -> list[Migration]:
    """Apply the migrations that are missing; returns those that this call applied. Several may do so at once.

    Raises MigrationError when the history does not fit or a file fails (nothing of that file is then applied), and
    psycopg.OperationalError when the database cannot be reached.
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
    except errors.OperationalError:
        raise
    except psycopg.Error as error:
        hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
        raise MigrationError(
            f"migration {migration.version:04d}_{migration.name} failed and was undone: "
            f"{error.diag.message_primary or str(error).strip()}{hint}"
        ) from error


def _apply_now(conninfo: str, migration: Migration) -> bool:
    with psycopg.connect(conninfo, prepare_threshold=None) as connection:
        # Whoever waited for the lock sees what its holder applied, whatever the database's default is.
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(_HISTORY)
        if migration not in _check(load(), _applied(connection)):
            return False
        connection.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
        # A role's own limit is meant for its queries: to complete a large table takes as long as it takes.
        connection.execute(b"SET LOCAL statement_timeout = 0")
        connection.execute(migration.sql.encode())
        connection.execute(
            "INSERT INTO jobqueue.migrations (version, name, checksum) VALUES (%s, %s, %s)",
            [migration.version, migration.name, migration.checksum],
        )
    return True
