"""A database that takes no writes for a while, as one does whose server was demoted or whose disk is full."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Iterator


def set_read_only(dsn: str, wanted: bool) -> None:
    """Have sessions that begin from now on refuse writes, or take them; to refuse, those of jobqueue there are begin anew.

    Sessions that began while writes were refused keep on refusing them.
    """
    name = conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        statement = "ALTER DATABASE {} SET default_transaction_read_only = {}"
        admin.execute(sql.SQL(statement).format(sql.Identifier(str(name)), sql.Literal(wanted)))
        if wanted:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'jobqueue:%'"
            )


@contextmanager
def read_only(dsn: str) -> Iterator[None]:
    """Within, the database refuses writes."""
    set_read_only(dsn, True)
    try:
        yield
    finally:
        set_read_only(dsn, False)
