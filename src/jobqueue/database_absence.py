"""Why there is no database to work with, read from what the driver says: it passes on no code for that."""

from __future__ import annotations

import re
from typing import Final

import psycopg

# Codes of a connection that failed, of a server that shuts down or starts up, and of one that takes no writes (Appendix A of
# PostgreSQL's documentation).
_AWAY: Final = ("08", "57P", "25006")

# How servers and poolers say that they know us and let us in no more.
_REFUSALS: Final = re.compile(
    r"password authentication failed|no password supplied|SASL authentication failed|certificate authentication failed"
    r"|no pg_hba\.conf entry|pg_hba\.conf rejects|role .* does not exist|is not permitted to log in|no such user"
)

# Where what the driver says of the next of several servers begins.
_ATTEMPT: Final = re.compile(r"^- host: ", re.MULTILINE)

# How a server says that it is there and lets nobody in for now.
_NOT_YET: Final = re.compile(
    r"the database system is (starting up|shutting down|in recovery mode|not yet accepting connections|not accepting connections)"
)

# What libpq says of a server that is not what target_session_attrs asks for.
_ONLY_STANDBYS: Final = re.compile(r"session is read-only|server is in hot standby mode")


def is_away(error: BaseException) -> bool:
    """Whether there was no database to work with, or none that takes writes; not so when the server gave a statement up."""
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return True
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_AWAY)


def refusal(error: BaseException) -> str | None:
    """What a server said that does not let us in, with this password or at all; None when the error is another.

    Where a URL names several servers it is None as well unless every one of them refuses us: another may be the one to ask.
    """
    if not isinstance(error, psycopg.OperationalError) or error.sqlstate is not None:
        return None
    text = str(error)
    attempts = _ATTEMPT.split(text)[1:] or [text]
    refused = [[line for line in attempt.splitlines() if _REFUSALS.search(line)] for attempt in attempts]
    return refused[-1][-1].rpartition("FATAL:")[2].strip() if all(refused) else None


def absence(error: psycopg.OperationalError) -> str:
    """Why there is no database to work with, in words that name no server and no role."""
    found = _NOT_YET.search(str(error))
    if found:
        return f"the database system is {found[1]}"
    if _ONLY_STANDBYS.search(str(error)):
        return "no server of DATABASE_URL takes writes: those that answer are read-only (standbys)"
    return "the database does not answer"
