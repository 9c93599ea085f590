"""SQL by name: one statement a file in sql/, and the one renderer that fills in a queue's table and words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from psycopg import sql

if TYPE_CHECKING:
    from jobqueue.kernel.database.rows import Retries

STATES: Final = ("pending", "processing", "completed", "failed", "cancelled")
"""The states of a job, for each of which a queue has a word of its own."""

COUNT_CAP: Final = 10_000
"""Counting stops here: a dashboard that counts a whole queue takes the database down with it."""

# The rows `t` whose lease is one of (ids, tokens): parallel arrays in the order of ids, so that a row finds its token by
# its id. There is no join, for which the planner would have to guess how many rows are leased. The inner ARRAY keeps it from
# counting the ids, and so to the primary key, in whose order the rows are locked.
_NTH = "width_bucket(t.id, %(ids)s::{id_type}[])"
_HELD = "t.id = ANY (ARRAY(SELECT unnest(%(ids)s::{id_type}[]))) AND t.lease_token = (%(tokens)s::uuid[])[" + _NTH + "]"


# The statements that can leave a row of jobqueue.attempts for each outcome: the outcome's name, and what they return.
_KEPT = {
    "complete_jobs": ("'completed'", "ended.id"),
    "retry_jobs": ("CASE WHEN ended.failed THEN 'failed' ELSE 'retried' END", "ended.id, ended.failed"),
    "fail_jobs": ("'failed'", "ended.id"),
    "cancel_jobs": ("'cancelled'", "ended.id"),
}


# Whether nobody has paused the queue, and whether nobody limits it. The clause locks nothing where there is no row, and that is
# the rule. It is there for the lock on the table, which shows who is claiming (admin/queue_states.py).
_NONE_OF = "NOT EXISTS (SELECT FROM jobqueue.{} AS p WHERE p.queue = {} FOR KEY SHARE OF p)"


# Before the first attempt has failed: what somebody says later is meant.
_RETRIES = ", max_retries = CASE WHEN t.retry_count = 0 AND t.max_retries = {} THEN {} ELSE t.max_retries END"


@dataclass(frozen=True, slots=True)
class Description:
    """A queue's table and state words, as `jobqueue.adopt()` registered them. `table` is schema-qualified and quoted.

    Jobs with the same value in the column `coalesce_by` are twins.
    """

    name: str
    table: str
    id_type: str
    pending: str
    processing: str
    completed: str
    failed: str
    cancelled: str
    coalesce_by: str | None = None


@cache
def statement(name: str, package: str = "jobqueue.kernel") -> bytes:
    """The text of sql/{name}.sql of a package, as it is written."""
    return (files(package) / "sql" / f"{name}.sql").read_bytes()


def render(template: bytes | sql.SQL, description: Description, **fragments: sql.Composable) -> bytes:
    """The text of a statement for one queue: its name, table, relation (the table's name as a text), id_type and words, and
    `fragments`, filled in for the names in braces.

    The result goes to the driver with parameters, even where it has none, and so every percent sign of a name, a word or
    another value is doubled. What is written in a `sql.SQL` is taken as it is: it may hold parameters like %(ids)s.

    State words are literals, never parameters: a partial index serves only a predicate that the planner can read.
    """
    values: dict[str, sql.Composable] = {
        "queue": sql.Literal(description.name),
        "table": sql.SQL(_doubled(description.table)),
        "relation": sql.Literal(description.table),
        "id_type": sql.SQL(description.id_type),
        **{word: sql.Literal(getattr(description, word)) for word in STATES},
        **fragments,
    }
    template = sql.SQL(template.decode()) if isinstance(template, bytes) else template
    return template.format(**{name: _escaped(value) for name, value in values.items()}).as_bytes(None)


def _escaped(value: sql.Composable) -> sql.Composable:
    match value:
        case sql.SQL() | sql.Placeholder():
            return value
        case sql.Composed():
            return sql.Composed([_escaped(part) for part in value])
        case _:
            return sql.SQL(_doubled(value.as_string(None)))


def _doubled(text: str) -> str:
    return text.replace("%", "%%")


class Statements:
    """The statements of one queue for its workers, each rendered once; `columns` are those that a claim reads besides.

    With `retries` a claim gives a job that says what the table says by itself the queue's own number.
    """

    def __init__(self, description: Description, columns: tuple[str, ...], retries: Retries | None = None) -> None:
        id_type = sql.SQL(description.id_type)
        self._description = description
        self._fragments: dict[str, sql.Composable] = {
            "columns": sql.SQL(", ").join([sql.SQL("t.") + sql.Identifier(column) for column in columns])
            if columns
            else sql.SQL("NULL"),
            "cap": sql.Literal(COUNT_CAP + 1),
            "nth": sql.SQL(_NTH).format(id_type=id_type),
            "held": sql.SQL(_HELD).format(id_type=id_type),
            "keyed": sql.SQL("false"),
            "retries": sql.SQL("") if retries is None else sql.SQL(_RETRIES).format(*map(sql.Literal, retries)),
        }
        self._unpaused, self._unlimited = (
            sql.SQL(_NONE_OF).format(sql.SQL(table), sql.Literal(description.name)) for table in ("pauses", "limits")
        )
        if key := description.coalesce_by:
            self._fragments["key"], self._fragments["key_name"] = sql.Identifier(key), sql.Literal(key)
            self._fragments["keyed"] = sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(key))
        self._rendered: dict[tuple[str, int | None], bytes] = {}
        self._permitting: dict[tuple[str, int], bytes] = {}
        self._keeping: dict[str, bytes] = {}

    def __call__(self, name: str, limit: int | None = None) -> bytes:
        """The text of statement `name`; `limit` is rendered as a literal where the statement has one."""
        key = (name, limit)
        if key not in self._rendered:
            fragments = dict(self._fragments)
            if limit is not None:
                fragments["limit"] = fragments["most"] = sql.Literal(limit)
                fragments["open"] = self._unpaused + sql.SQL(" AND ") + self._unlimited
            self._rendered[key] = render(statement(name), self._description, **fragments)
        return self._rendered[key]

    def limited(self, name: str, limit: int) -> bytes:
        """The text of a statement that claims as `name` does, and no more jobs than the queue's limits permit."""
        if (name, limit) not in self._permitting:
            fragments = {
                **self._fragments,
                "limit": sql.Literal(limit),
                "most": sql.SQL("(SELECT greatest(permitted.jobs, 0) FROM permitted)"),
                "open": self._unpaused,
            }
            claiming = render(statement(name), self._description, **fragments).decode().rstrip()
            fragments["claiming"] = sql.SQL(claiming)
            self._permitting[name, limit] = render(statement("claim_limited"), self._description, **fragments)
        return self._permitting[name, limit]

    def keeping(self, name: str) -> bytes:
        """The text of a statement that records the outcomes as `name` does, and keeps the attempts."""
        if name not in self._keeping:
            outcome, answer = _KEPT[name]
            # What is rendered already has its percent signs doubled.
            fragments = {
                "recording": sql.SQL(self(name).decode().rstrip()),
                "nth": self._fragments["nth"],
                "outcome": sql.SQL(outcome),
                "answer": sql.SQL(answer),
            }
            self._keeping[name] = render(statement("keep_attempts"), self._description, **fragments)
        return self._keeping[name]
