"""The one PostgreSQL server that everybody is measured on, and its databases."""

from __future__ import annotations

import itertools
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg import sql

from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.leash import reachable_folder, unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# As a server of this size would be set; fsync, full_page_writes and synchronous_commit stay on. No checkpoint falls into
# a run: one is made before each, and the next one is half an hour or 16 GB of WAL away.
SETTINGS: Final = {
    "shared_buffers": "512MB",
    "max_wal_size": "16GB",
    "min_wal_size": "1GB",
    "checkpoint_timeout": "30min",
    "wal_level": "replica",
    "max_connections": "300",
}


@dataclass(frozen=True)
class Cost:
    """What a run cost the server: bytes of WAL, and transactions committed in its database."""

    wal_bytes: int
    commits: int


class Server:
    """A server of the bench's own in a temporary folder, removed with it. Databases are copies of templates."""

    def __init__(self) -> None:
        self._folder = reachable_folder("jobqueue-bench-", unprivileged_user())
        self._postgres = Postgres(self._folder / "postgres", settings=SETTINGS)
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()

    def __enter__(self) -> Self:
        self._postgres.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def version(self) -> str:
        return str(self.fetch(self._postgres.dsn, "SHOW server_version"))

    def template(self, name: str, fill: Callable[[str], None], base: str | None = None) -> str:
        """The database `name`, made by `fill(dsn)` (on a copy of `base` when given) the first time it is asked for."""
        if name not in self._templates:
            self._create(name, base)
            try:
                fill(self._postgres.dsn_of(name))
                # Settled, as it would be in production: with statistics, and without work left over for autovacuum.
                self._execute(self._postgres.dsn_of(name), sql.SQL("VACUUM ANALYZE"))
            except BaseException:
                self._postgres.drop_database(name)
                raise
            self._templates.add(name)
        return name

    @contextmanager
    def database(self, template: str) -> Iterator[str]:
        """The libpq URL of a fresh copy of `template`, dropped afterwards."""
        name = f"run_{next(self._numbers)}"
        self._create(name, template)
        try:
            yield self._postgres.dsn_of(name)
        finally:
            self._postgres.drop_database(name)

    def settle(self, dsn: str) -> None:
        """Give the database statistics and the server a checkpoint, so that neither falls into the run."""
        self._execute(dsn, sql.SQL("ANALYZE"))
        self._execute(dsn, sql.SQL("CHECKPOINT"))

    def wait_until_old(self, seconds: float) -> None:
        """Return when the server has been up for so long."""
        age = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8"
        time.sleep(max(0.0, seconds - self.fetch(self._postgres.dsn, age)))

    def cost(self, dsn: str) -> Cost:
        """What has been written so far. Sessions count their commits at the latest when they end."""
        row = self.fetch_row(
            dsn,
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, xact_commit"
            " FROM pg_stat_database WHERE datname = current_database()",
        )
        return Cost(int(row[0]), int(row[1]))

    def fetch(self, dsn: str, query: str) -> Any:
        """The first column of the first row."""
        return self.fetch_row(dsn, query)[0]

    def fetch_row(self, dsn: str, query: str) -> tuple[Any, ...]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row

    def _create(self, name: str, template: str | None) -> None:
        self._execute(
            self._postgres.dsn,
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template or "template0")
            ),
        )

    @staticmethod
    def _execute(dsn: str, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement)
