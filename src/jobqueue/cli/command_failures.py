"""How a command ends when it cannot do what it was asked: lines for a person, and an exit code.

0 done; 1 the command ran and the answer is no, or something failed; 2 wrong usage or configuration; 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

_LONGEST = 500


class Stop(Exception):
    """Ends the command with `lines` on standard error and exit code `code`."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.code = code
        self.lines = lines


def failed(*lines: str) -> Stop:
    """The command ran, and the answer is no or something failed."""
    return Stop(1, *lines)


def misused(*lines: str) -> Stop:
    """The command cannot run as it was called."""
    return Stop(2, *lines)


def explain(error: Exception) -> Stop | None:
    """Give what a person is told about `error`; None when the error is a fault of this program."""
    from jobqueue.errors import ConfigurationError

    if isinstance(error, Stop):
        return error
    if isinstance(error, ConfigurationError):
        return misused(*error.problems)
    # The code that raised one of these has imported its module; importing it here would only slow down a mistyped option.
    if "jobqueue.migrations" in sys.modules:
        from jobqueue.migrations import MigrationError

        if isinstance(error, MigrationError):
            return failed(_safe(str(error)))
    if "psycopg" in sys.modules:
        import psycopg

        if isinstance(error, psycopg.Error):
            return failed(_safe(_explain_database(error)))
    return None


def _explain_database(error: psycopg.Error) -> str:
    from psycopg import OperationalError, errors

    said = error.diag.message_primary or " ".join(str(error).split())
    match error:
        case errors.UndefinedTable() | errors.InvalidSchemaName() if "jobqueue" in said:
            return "this database has not been prepared: run `jobqueue migrate`"
        case errors.UndefinedTable() | errors.UndefinedColumn():
            return f"this database is not what this version expects ({said}): run `jobqueue migrate`"
        case errors.InsufficientPrivilege():
            return _explain_refusal(error)
        case errors.QueryCanceled():
            return "the database took too long to answer and was not kept at it: ask for less, or try again later"
        case errors.LockNotAvailable():
            return (
                "somebody holds a lock on these rows or this table: find them in pg_stat_activity, or try again later"
            )
        case errors.ReadOnlySqlTransaction():
            return (
                f"the database takes no writes, and nothing was changed: it is a standby, or was set read-only ({said})"
            )
        case OperationalError() if error.sqlstate is None:
            return f"the database cannot be reached: {said}"
    return f"the database refused: {said}"


def _explain_refusal(error: psycopg.Error) -> str:
    from jobqueue.database_session import connect
    from jobqueue.roles.missing_rights import explain_refusal
    from jobqueue.settings import load_settings

    # The connection that was refused has been closed, or waits for its transaction to end.
    with connect(load_settings().conninfo, "cli") as connection:
        return explain_refusal(error, lambda query: connection.execute(query).fetchall())


def _safe(text: str) -> str:
    """Give the text on one line, without anything that was loaded as a secret or looks like one."""
    from jobqueue.errors import ConfigurationError
    from jobqueue.observe.redact import Redactor
    from jobqueue.settings import load_settings

    try:
        secrets = load_settings().secrets()
    except ConfigurationError:
        secrets = ()
    text = Redactor(secrets).redact(" ".join(text.split()))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
