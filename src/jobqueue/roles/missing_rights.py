"""What a role may not do, in words: which role, what it was refused, and the statements that grant what it lacks."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

GRANTED: Final = "`jobqueue roles --apply`, run as who owns the database, grants what our roles need"

_WHO: Final = b"""
SELECT current_user::text, to_regnamespace('jobqueue') IS NULL OR has_schema_privilege('jobqueue', 'USAGE')"""

# As which of our roles this one comes; any other is taken for a worker's.
_LACKING: Final = b"""
SELECT jobqueue.missing_rights(coalesce(
    (SELECT r.rolname FROM pg_roles AS r
     WHERE r.rolname IN ('jobqueue_worker', 'jobqueue_reader', 'jobqueue_host') AND pg_has_role(current_user, r.oid, 'USAGE')
     ORDER BY r.rolname DESC LIMIT 1), 'jobqueue_worker'))"""

_NAMED: Final = re.compile(r'for (?:table|sequence|schema) "?([^"\s]+)"?')

# Statements that are told.
_MOST: Final = 5


def explain_refusal(error: psycopg.Error, ask: Callable[[bytes], list[tuple[Any, ...]]]) -> str:
    """The sentence for an error that says that a right is missing. `ask` runs a statement as the role that was refused.

    It names no right where the role has all that one of its kind is meant to have. Raises nothing of psycopg's.
    """
    said = error.diag.message_primary or str(error).strip()
    role, lacking = "the role of this connection", list[str]()
    with suppress(psycopg.Error):
        [(name, uses)] = ask(_WHO)
        role = f"the role {name}"
        if not uses:
            lacking = [f"GRANT USAGE ON SCHEMA jobqueue TO {name}"]
        else:
            lacking = [statement for (statement,) in ask(_LACKING)]
            if found := _NAMED.search(said):
                there = re.compile(rf"\bON .*(?<![\w]){re.escape(found[1])}\b")
                lacking = [statement for statement in lacking if there.search(statement)]
    told = f"{role} may not do this: {said}"
    if lacking:
        told += f"; it lacks {'; '.join(lacking[:_MOST])}"
        if len(lacking) > _MOST:
            told += f" and {len(lacking) - _MOST} more"
    return f"{told}; {GRANTED}"
