"""The roles of the product on a test's server: made once, each able to log in."""

from __future__ import annotations

from typing import Final

import psycopg

from jobqueue.roles.database_roles import make_roles

ROLES: Final = ("migrate", "worker", "host", "reader")

_PASSWORD: Final = "of-no-importance"


def let_in(dsn: str) -> list[str]:
    """Make the roles on the server of `dsn`, and grant them what they need in its database; returns what is left to do.

    Roles belong to the server: they stay, and whoever comes next finds them.
    """
    left = make_roles(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"ALTER ROLE jobqueue_{role} LOGIN PASSWORD '{_PASSWORD}'".encode())
    return left


def as_role(dsn: str, role: str) -> str:
    """The URL of `dsn` for one of ROLES, once it has been let in."""
    scheme, _, rest = dsn.partition("://")
    return f"{scheme}://jobqueue_{role}:{_PASSWORD}@{rest.rpartition('@')[2]}"
