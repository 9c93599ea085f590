"""The kernel's SQL: one statement a file in sql/, rendered once for each queue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from psycopg import sql

# The rows `t` whose lease is one of (ids, tokens): parallel arrays in the order of ids, so that a row finds its token by
# its id. No join, for which the planner would have to guess how many rows are leased; the inner ARRAY keeps it from
# counting the ids, and so to the primary key, in whose order the rows are locked.
_NTH = "width_bucket(t.id, %(ids)s::{id_type}[])"
_HELD = "t.id = ANY (ARRAY(SELECT unnest(%(ids)s::{id_type}[]))) AND t.lease_token = (%(tokens)s::uuid[])[" + _NTH + "]"

# Counting stops here: a dashboard that counts a whole queue takes the database down with it.
COUNT_CAP = 10_000


@dataclass(frozen=True, slots=True)
class Description:
    """A queue's table and state words, as `jobqueue.adopt()` registered them. `table` is schema-qualified and quoted."""

    name: str
    table: str
    id_type: str
    pending: str
    processing: str
    completed: str
    failed: str
    cancelled: str


@cache
def statement(name: str) -> bytes:
    """The text of sql/{name}.sql, which is the same for every queue."""
    return (files("jobqueue.kernel") / "sql" / f"{name}.sql").read_bytes()


class Statements:
    """The statements of one queue, with its table, words and columns filled in as literals.

    State words are literals, never parameters: a partial index serves only a predicate that the planner can read.
    """

    def __init__(self, description: Description, columns: tuple[str, ...]) -> None:
        values: dict[str, sql.Composable] = {
            "table": sql.SQL(description.table),
            "id_type": sql.SQL(description.id_type),
            "columns": sql.SQL(", ").join([sql.SQL("t.") + sql.Identifier(column) for column in columns])
            if columns
            else sql.SQL("NULL"),
            "cap": sql.Literal(COUNT_CAP + 1),
        }
        for word in ("pending", "processing", "completed", "failed", "cancelled"):
            values[word] = sql.Literal(getattr(description, word))
        # A percent sign in a name would be taken for a parameter.
        self._values = {key: sql.SQL(value.as_string(None).replace("%", "%%")) for key, value in values.items()}
        for name, text in (("nth", _NTH), ("held", _HELD)):
            self._values[name] = sql.SQL(sql.SQL(text).format(id_type=values["id_type"]).as_string(None))
        self._rendered: dict[tuple[str, int | None], bytes] = {}

    def __call__(self, name: str, limit: int | None = None) -> bytes:
        """The text of statement `name`; `limit` is rendered as a literal where the statement has one."""
        key = (name, limit)
        if key not in self._rendered:
            values = self._values if limit is None else {**self._values, "limit": sql.Literal(limit)}
            template = sql.SQL(statement(name).decode())
            self._rendered[key] = template.format(**values).as_bytes(None)
        return self._rendered[key]
