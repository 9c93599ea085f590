"""Which jobs an operator means: states and filters, as predicates that the queue's indexes can serve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from psycopg import sql

from jobqueue.kernel.database.statements import STATES, Description, render, statement

if TYPE_CHECKING:
    from datetime import timedelta

    from jobqueue.kernel.job import JobId

PACKAGE = "jobqueue.admin"

# Jobs in these states are in no index: a search walks the table's blocks.
UNINDEXED = ("completed", "cancelled")

# Ids of one selection that are written down.
_NOTED = 100

_TRUE = sql.SQL("true")


@dataclass(frozen=True, slots=True)
class Adopted:
    """A queue as it is registered; `has_kind` when its table tells jobs apart by a column `kind`."""

    description: Description
    has_kind: bool

    @property
    def name(self) -> str:
        return self.description.name

    def word(self, state: str) -> str:
        """The queue's own word for a state."""
        return str(getattr(self.description, state))

    def state(self, word: str) -> str | None:
        """The state that the queue's own word stands for; None when it is not one of them."""
        return next((state for state in STATES if self.word(state) == word), None)


@dataclass(frozen=True, slots=True)
class Selection:
    """Jobs in any of `states` (of STATES) that fit every filter given.

    `error` is a part of error_message, in any case. `older` is the time since the job finished, or since it was created
    when it has not finished. `delayed_only` leaves out pending jobs that are due already. With `ids`, only those are meant.
    """

    states: tuple[str, ...]
    ids: tuple[JobId, ...] = ()
    error: str | None = None
    kind: str | None = None
    older: timedelta | None = None
    delayed_only: bool = False

    def only(self, *states: str) -> Selection:
        """The same selection, narrowed to those of its states that are among `states`."""
        return replace(self, states=tuple(state for state in self.states if state in states))

    def matches(self) -> sql.Composable:
        """The filters, as a condition on `t`."""
        conditions: list[sql.Composable] = []
        if self.error is not None:
            conditions.append(sql.SQL("position(lower(%(error)s::text) IN lower(t.error_message)) > 0"))
        if self.kind is not None:
            conditions.append(sql.SQL("t.kind = %(kind)s"))
        if self.older is not None:
            conditions.append(sql.SQL("coalesce(t.completed_at, t.created_at) < now() - %(older)s::interval"))
        return sql.SQL(" AND ").join(conditions) if conditions else _TRUE

    def document(self) -> dict[str, Any]:
        """Which jobs are meant, for people to read later: the ids, a hundred of them at most, or the states and filters."""
        if self.ids:
            return {"ids": [str(id_) for id_ in self.ids[:_NOTED]], "number": len(self.ids)}
        return {"states": list(self.states), "error": self.error, "kind": self.kind, "older": self.older}

    def params(self, **more: Any) -> dict[str, Any]:
        """The values of the filters, for the statement's parameters; `more` wins over them."""
        return {"ids": list(self.ids), "error": self.error, "kind": self.kind, "older": self.older, **more}


@dataclass(frozen=True, slots=True)
class JobSource:
    """One place where jobs are found: a condition on `t` that one index serves, and the order in which it lists them."""

    condition: sql.Composable
    order: sql.SQL
    due: bool = False


def indexed_sources(description: Description, selection: Selection) -> list[JobSource]:
    """Where an index finds the jobs of a selection: in progress, due, delayed, failed.

    State words are literals, and `pending` comes in two halves, because the partial indexes have these predicates.
    """
    found = []
    if "processing" in selection.states:
        found.append(JobSource(_is(description.processing), sql.SQL("t.started_at, t.id")))
    if "pending" in selection.states:
        # As the indexes have it (sql/0009_indexes.sql).
        pending = sql.SQL("(t.status = {}) IS TRUE").format(sql.Literal(description.pending))
        if not selection.delayed_only:
            due = pending + sql.SQL(" AND t.position IS NOT NULL")
            found.append(JobSource(due, sql.SQL("t.priority DESC, t.position"), due=True))
        found.append(JobSource(pending + sql.SQL(" AND t.position IS NULL"), sql.SQL("t.run_after")))
    if "failed" in selection.states:
        found.append(JobSource(_is(description.failed), sql.SQL("t.completed_at DESC")))
    return found


def block_source(description: Description, selection: Selection, first: int, end: int) -> JobSource:
    """Finished jobs in the table's blocks from `first` up to but not including `end`: a TID range scan reads only those."""
    words = [getattr(description, state) for state in selection.states]
    condition = sql.SQL("t.ctid >= {}::tid AND t.ctid < {}::tid AND t.status = ANY ({}::text[])").format(
        sql.Literal(f"({first},0)"), sql.Literal(f"({end},0)"), sql.Literal(words)
    )
    return JobSource(condition, sql.SQL("t.completed_at DESC"))


def id_source(description: Description, selection: Selection) -> JobSource:
    """Jobs whose id is in the parameter `ids` and whose state is one of the selection's: the index on id finds them."""
    conditions = [source.condition for source in indexed_sources(description, selection)]
    conditions += [_is(getattr(description, state)) for state in selection.states if state in UNINDEXED]
    condition = sql.SQL("t.id = ANY (%(ids)s::{}[]) AND ({})").format(
        sql.SQL(description.id_type), sql.SQL(" OR ").join(conditions)
    )
    return JobSource(condition, sql.SQL("t.id"))


def render_statement(name: str, description: Description, **fragments: sql.Composable) -> bytes:
    """The text of this package's sql/{name}.sql for one queue; see `render`."""
    return render(statement(name, PACKAGE), description, **fragments)


def _is(word: str) -> sql.Composed:
    return sql.SQL("t.status = {}").format(sql.Literal(word))
