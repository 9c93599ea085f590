"""A host application's view of its database, and migrated databases for it."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.rows import dict_row
from tests.support.roles import let_in

from jobqueue import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from jobqueue.demo.embedded_postgres import Postgres

_numbers = itertools.count(1)

Row = dict[str, Any]


def migrated(postgres: Postgres) -> str:
    """Make a database with all migrations in it, let the roles in; returns its name, for the fixture `template`."""
    name = f"migrated_{os.getpid()}_{next(_numbers)}"
    dsn = postgres.create_database(name)
    migrations.migrate(dsn)
    let_in(dsn)
    return name


@contextmanager
def shared_database(postgres: Postgres, template: str, name: str) -> Iterator[Host]:
    """One database for all tests of a module: making one for each would take longer than they do."""
    name = f"{template}_{name}"
    with Host(postgres.create_database(name, template=template)) as host:
        yield host
    postgres.drop_database(name)


class Host:
    """The application whose tables the queues are: it inserts rows and looks at them, and nothing more."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._connection = psycopg.connect(dsn, autocommit=True, row_factory=dict_row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def clear(self) -> None:
        """Remove all files and their jobs."""
        self.execute("TRUNCATE auction_files CASCADE")

    def rows(self, query: str, **params: object) -> list[Row]:
        return self._connection.execute(query.encode(), params).fetchall()

    def execute(self, query: str, **params: object) -> int:
        return self._connection.execute(query.encode(), params).rowcount

    def enqueue(self, source_key: str | None, **columns: object) -> UUID:
        """Insert a file and its job, as a host does; `columns` are of the job. Returns the job's id."""
        file_id = self.rows("INSERT INTO auction_files (source_key) VALUES (%(k)s) RETURNING id", k=source_key)[0]["id"]
        return self.enqueue_again(file_id, **columns)

    def enqueue_again(self, file_id: UUID, **columns: object) -> UUID:
        """Insert another job for a file that is there."""
        names = ", ".join(["file_id", *columns])
        values = ", ".join(["%(file_id)s", *(f"%({name})s" for name in columns)])
        found = self.rows(
            f"INSERT INTO publish_jobs ({names}) VALUES ({values}) RETURNING id", file_id=file_id, **columns
        )
        return found[0]["id"]  # type: ignore[no-any-return]

    def job(self, job_id: UUID) -> Row:
        return self.rows("SELECT * FROM publish_jobs WHERE id = %(id)s", id=job_id)[0]

    def file_of(self, job_id: UUID) -> Row:
        """The file of a job."""
        return self.rows(
            "SELECT f.* FROM auction_files f JOIN publish_jobs j ON j.file_id = f.id WHERE j.id = %(id)s", id=job_id
        )[0]

    def states(self) -> Counter[str]:
        """How many publish jobs are in each state."""
        return Counter(
            {row["status"]: row["n"] for row in self.rows("SELECT status, count(*) n FROM publish_jobs GROUP BY 1")}
        )

    def named_keys(self) -> set[str]:
        """The keys of all objects that some file names."""
        prefixes = self.rows("SELECT cdn_key_prefix AS p FROM auction_files WHERE cdn_key_prefix IS NOT NULL")
        return {f"{row['p']}/{variant}.webp" for row in prefixes for variant in ("thumb", "display")}
