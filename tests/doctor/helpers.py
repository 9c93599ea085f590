"""A healthy system, in which tests plant what is wrong, and its examination."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from tests.support.waiting import eventually

from jobqueue.doctor.checkup import Checkup, Thresholds
from jobqueue.doctor.examination import CHECKS, Examination, Finding, examine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jobqueue.demo.object_store import ObjectStore


DURABLE = ("fsync", "full_page_writes")


def set_on_server(dsn: str, name: str, value: str) -> None:
    """Set one setting of a server, as a superuser, for all sessions that begin later."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
        connection.execute("SELECT pg_reload_conf()")
    eventually(lambda: _shown(dsn, name) == value)


def _shown(dsn: str, name: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(f"SHOW {name}".encode()).fetchone()
        assert row is not None
        return str(row[0])


@dataclass
class Healthy:
    """A system with its environment; `admin` is a superuser's session in its database, at the URL `admin_url`."""

    environ: dict[str, str]
    admin: psycopg.Connection[tuple[Any, ...]]
    store: ObjectStore
    folder: Path
    admin_url: str
    limits: Thresholds = field(default_factory=Thresholds)
    clock: Callable[[], float] = time.time
    cleanup: ExitStack = field(default_factory=ExitStack)

    def sql(self, query: str) -> None:
        """Run statements as the superuser."""
        self.admin.execute(query.encode())

    def examine(self, *checks: str) -> Examination:
        """Examine it, by some of the checks and those that establish facts, and undo what a plant has left in `cleanup`."""
        wanted = {*checks, "environment", "database", "migrations"}
        checkup = Checkup(self.environ, self.limits, self.clock)
        try:
            return examine(checkup, checks=[check for check in CHECKS if not checks or check.name in wanted])
        finally:
            checkup.close()
            self.cleanup.close()

    def set_on_server(self, name: str, value: str) -> None:
        """Set one setting of the server, until the examination is over."""
        self.cleanup.callback(set_on_server, self.admin_url, name, _shown(self.admin_url, name))
        set_on_server(self.admin_url, name, value)

    def own_objects(self) -> list[Path]:
        """What examinations have left in the bucket."""
        return [path for path in (self.store.bucket_folder / "jobqueue-check").rglob("*") if path.is_file()]


def troubles(examination: Examination) -> list[Finding]:
    """Everything that was found not to be well."""
    return [finding for finding in examination.findings if finding.status != "ok"]
