"""What a check says, and what all checks of one examination share: the settings, the environment and the database."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from jobqueue.errors import ConfigurationError
from jobqueue.kernel.database.limited import fetch
from jobqueue.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobqueue.database_session import DatabaseSession
    from jobqueue.settings import Settings

Status = Literal["ok", "warning", "failure"]

# Seconds that one statement of a check may take.
_LIMIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says of one thing. `remedy` is the one thing to do; `about` names the thing where it is not the check's own."""

    status: Status
    says: str
    remedy: str | None = None
    about: str | None = None


def well(says: str, about: str | None = None) -> Verdict:
    """All is well."""
    return Verdict("ok", says, None, about)


def warn(says: str, remedy: str, about: str | None = None) -> Verdict:
    """Something works less well than it could, or will fail one day."""
    return Verdict("warning", says, remedy, about)


def fail(says: str, remedy: str, about: str | None = None) -> Verdict:
    """Something does not work."""
    return Verdict("failure", says, remedy, about)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is too much: seconds of an open transaction, seconds between two clocks, and dead rows of a table."""

    transaction_seconds: float = 3600.0
    clock_seconds: float = 5.0
    dead_rows: int = 50_000


@dataclass
class Checkup:
    """One examination. `facts` are what is known: a check that needs more is left out.

    `problems` are those of the environment, one line each; without any there are `settings`.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    limits: Thresholds = field(default_factory=Thresholds)
    clock: Callable[[], float] = time.time
    problems: list[str] = field(default_factory=list)
    facts: set[str] = field(default_factory=set)
    secrets: list[str] = field(default_factory=list)
    _settings: Settings | None = None
    _connection: DatabaseSession | None = None

    def __post_init__(self) -> None:
        try:
            self._settings = load_settings(self.environ)
        except ConfigurationError as error:
            self.problems = error.problems
        else:
            self.secrets += self._settings.secrets()

    @property
    def settings(self) -> Settings:
        """The settings. Only for checks that need them."""
        assert self._settings is not None
        return self._settings

    @property
    def connection(self) -> DatabaseSession:
        """The connection to DATABASE_URL. Only for checks that need the database."""
        assert self._connection is not None
        return self._connection

    @connection.setter
    def connection(self, connection: DatabaseSession) -> None:
        self._connection = connection

    def rows(self, query: bytes, **params: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement, which has five seconds. Raises psycopg.Error."""
        return fetch(self.connection, query, params, seconds=_LIMIT)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()


CheckFunction = Callable[[Checkup], Verdict | Iterable[Verdict] | None]
"""Looks at one thing. It gives one verdict, several, or none where the thing does not apply here."""


def named(names: Iterable[str], most: int = 5) -> str:
    """Join names for a sentence: no more than `most`, and how many there are besides."""
    listed = list(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")
