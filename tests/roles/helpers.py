"""A database that an administrator owns who is no superuser, and everybody's way into it."""

from __future__ import annotations

from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.support.roles import ROLES, as_role, let_in

from jobqueue.migrations import migrate
from jobqueue.roles.database_roles import grant_roles


class Administered:
    """`dsn` is a superuser's, `admin` the owner's. `let_in` makes the roles, and `migrate` is for the test to call."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.root = psycopg.connect(dsn, autocommit=True)
        self.root.execute(sql.SQL("ALTER DATABASE {} OWNER TO admin").format(sql.Identifier(self.root.info.dbname)))
        self.admin = make_conninfo(dsn, user="admin", password="p")
        self.addresses = {role: as_role(dsn, role) for role in ROLES}
        self._sessions: list[psycopg.Connection[Any]] = [self.root]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()

    def let_in(self) -> list[str]:
        """Make the roles, as the administrator; returns what is left for others to do."""
        return let_in(self.admin)

    def migrate(self) -> list[str]:
        """Migrate as jobqueue_migrate; returns what is left for others to do."""
        migrate(self.addresses["migrate"])
        return grant_roles(self.addresses["migrate"])

    def session(self, role: str) -> psycopg.Connection[Any]:
        """An autocommit connection as one of ROLES, or as the administrator."""
        conninfo = self.addresses.get(role, self.admin)
        self._sessions.append(psycopg.connect(conninfo, autocommit=True))
        return self._sessions[-1]

    def rows(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """What a superuser sees."""
        cursor = self.root.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description is not None else []
