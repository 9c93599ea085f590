"""Makes the roles and gives them their rights: what they may do is written in the table `jobqueue.rights` (sql/0015_roles.sql)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jobqueue.database_session import connect

if TYPE_CHECKING:
    import psycopg

_CAN_GRANT = (
    b"SELECT to_regprocedure('jobqueue.grant_roles(text)') IS NOT NULL AND has_schema_privilege('jobqueue', 'USAGE')"
)


def make_roles_sql() -> str:
    """The SQL that makes the roles, for whoever administers the database."""
    return (files("jobqueue.roles") / "make_roles.sql").read_text(encoding="utf-8")


def make_roles(conninfo: str) -> list[str]:
    """Make the roles, and give them their rights where the database has been migrated; returns what is left for others to do.

    Raises psycopg.Error when the role of `conninfo` may not; nothing is changed then.
    """
    left: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        left.append(diagnostic.message_primary or "")

    with connect(conninfo, "roles", autocommit=False) as connection:
        connection.add_notice_handler(note)
        connection.execute(make_roles_sql().encode())
    return left


def grant_roles(conninfo: str) -> list[str]:
    """Give the roles that are there what they lack in this database; returns what is left for others to do.

    Raises psycopg.Error when a table stays locked, or the database cannot be reached.
    """
    with connect(conninfo, "roles", autocommit=False) as connection:
        if connection.execute(_CAN_GRANT).fetchone() != (True,):
            return []
        rows: list[tuple[Any, ...]] = connection.execute(b"SELECT * FROM jobqueue.grant_roles()").fetchall()
        return [problem for (problem,) in rows]
