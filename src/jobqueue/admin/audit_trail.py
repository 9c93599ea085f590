"""Writes down what operators change by hand: who, what, and how many rows (table jobqueue.audit)."""

from __future__ import annotations

import getpass
import json
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from jobqueue.kernel.database.limited import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobqueue.kernel.database.limited import Connection

# Seconds that one statement may take.
_LIMIT = 5.0

_BEGIN = b"""
INSERT INTO jobqueue.audit (who, action, target, selection)
VALUES (%(who)s, %(action)s, %(target)s, %(selection)s::jsonb) RETURNING id"""

_END = b"UPDATE jobqueue.audit SET changed = %(changed)s WHERE id = %(id)s RETURNING id"


class AuditEntry:
    """One change under way: what was done before an interruption stays done, and counts."""

    def __init__(self) -> None:
        self.changed = 0

    def count(self, changed: int) -> None:
        """So many rows have been changed by now."""
        self.changed = changed


def operator() -> str:
    """Who types: the user and this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


@contextmanager
def audited(
    connection: Connection, action: str, target: str, selection: Mapping[str, Any], who: str | None = None
) -> Iterator[AuditEntry]:
    """Write down a change before it begins, and its number of rows when the block ends, however it ends.

    Raises psycopg.Error when it cannot be written down: then nothing is changed either.
    """
    params = {"who": who or operator(), "action": action, "target": target}
    document = json.dumps({name: value for name, value in selection.items() if value}, default=str)
    [(id_,)] = fetch(connection, _BEGIN, {**params, "selection": document}, seconds=_LIMIT)
    entry = AuditEntry()
    try:
        yield entry
    except BaseException:
        # The connection may be what failed.
        with suppress(Exception):
            fetch(connection, _END, {"id": id_, "changed": entry.changed}, seconds=_LIMIT)
        raise
    fetch(connection, _END, {"id": id_, "changed": entry.changed}, seconds=_LIMIT)
