"""What tests of the command line work with: a database that they take turns with, the command, and SQL beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from typer.testing import CliRunner

from jobqueue.cli.main import app

if TYPE_CHECKING:
    from jobqueue.demo.embedded_postgres import Postgres

# Changes with every table, column rule, trigger, function and queue that a test adds or alters.
_SHAPE = """
    SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
        SELECT 'c' || oid FROM pg_class WHERE relnamespace <> 'pg_toast'::regnamespace
        UNION ALL SELECT 'p' || oid FROM pg_proc
        UNION ALL SELECT 't' || oid || tgenabled::text FROM pg_trigger
        UNION ALL SELECT 'a' || attrelid || attname || attnotnull::text FROM pg_attribute
        UNION ALL SELECT 'm' || version || checksum FROM jobqueue.migrations
        UNION ALL SELECT 'q' || name FROM jobqueue.queues) AS parts (part)"""


# What a migrated database has no rows in to begin with.
_EMPTY = """
    SELECT string_agg(oid::regclass::text, ', ') FROM pg_class
    WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'jobqueue'::regnamespace)
      AND pg_relation_size(oid) = 0"""


class Reused:
    """A database that tests take turns with: emptied after each, and thrown away when one has altered its shape.

    Dropping a database makes PostgreSQL write everything out, which takes longer than most of these tests.
    """

    def __init__(self, postgres: Postgres, template: str) -> None:
        self._postgres = postgres
        self._template = template
        self._made = 0
        self._url: str | None = None
        self._shape = self._empty = ""

    def take(self) -> str:
        if self._url is None:
            self._made += 1
            self._url = self._postgres.create_database(f"{self._template}_{self._made}", template=self._template)
            with psycopg.connect(self._url) as connection:
                self._shape, self._empty = _value(connection, _SHAPE), _value(connection, _EMPTY)
        return self._url

    def give_back(self) -> None:
        assert self._url is not None
        url, self._url = self._url, None
        with psycopg.connect(url) as connection:
            # Whoever still has something open here would be waited for.
            connection.execute(b"SET lock_timeout = '5s'")
            if _value(connection, _SHAPE) == self._shape:
                connection.execute(f"TRUNCATE {self._empty} RESTART IDENTITY CASCADE".encode())
                self._url = url


def _value(connection: psycopg.Connection[tuple[Any, ...]], query: str) -> str:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


@dataclass
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output, which is one JSON document."""
        read: dict[str, Any] = json.loads(self.out)
        return read

    @property
    def headings(self) -> list[str]:
        """The first line of standard output, which is tab-separated lines."""
        return self.out.splitlines()[0].split("\t")

    @property
    def rows(self) -> list[list[str]]:
        """The lines below the headings."""
        return [line.split("\t") for line in self.out.splitlines()[1:]]


class Jobqueue:
    """Runs commands in this process."""

    def __call__(self, *args: object, typed: str | None = None) -> Ran:
        result = CliRunner().invoke(app, [str(arg) for arg in args], input=typed, prog_name="jobqueue")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)


class Database:
    """SQL beside the command."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.connection = connection

    def __call__(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *params: Any) -> Any:
        return self(query, *params)[0][0]
