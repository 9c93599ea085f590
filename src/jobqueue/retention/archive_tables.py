"""Which rows belong to those of a table, and the statements that read, lock and delete a range of them.

The rows that belong to a row are archived beside it: the states of a notification, and whatever a host's own foreign keys delete
with it (ON DELETE CASCADE). A row is kept, neither archived nor deleted, where a foreign key holds it (NO ACTION, RESTRICT), where
another row of its own table belongs to it, or where the cascade goes deeper than one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg import sql

if TYPE_CHECKING:
    import psycopg

EVENTS: Final = "platform_events"
NOTIFICATIONS: Final = "platform_notifications"

# Rows that belong to others by their meaning, whether or not a foreign key says so: their table, their column, the column meant.
_BELONGS: Final = {NOTIFICATIONS: ("notification_state", "notification_id", "id")}

# out: the types of created_at and of id.
_COLUMNS: Final = b"""
SELECT (SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a
        WHERE a.attrelid = t.oid AND a.attname = 'created_at' AND NOT a.attisdropped),
       (SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a
        WHERE a.attrelid = t.oid AND a.attname = 'id' AND NOT a.attisdropped)
FROM pg_class AS t WHERE t.oid = format('public.%%I', %(table)s::text)::regclass"""

# out: the columns of _ForeignKey.
_REFERENCES: Final = b"""
SELECT n.nspname, r.relname,
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.place),
       ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = k.number ORDER BY k.place),
       c.confdeltype = 'c' AND c.conrelid <> c.confrelid,
       EXISTS (SELECT FROM pg_constraint AS deeper
               WHERE deeper.contype = 'f' AND deeper.confrelid = c.conrelid AND deeper.confdeltype NOT IN ('n', 'd'))
FROM pg_constraint AS c
JOIN pg_class AS r ON r.oid = c.conrelid
JOIN pg_namespace AS n ON n.oid = r.relnamespace
WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confdeltype NOT IN ('n', 'd')
  AND c.confrelid = format('public.%%I', %(table)s::text)::regclass
ORDER BY n.nspname, r.relname, c.conname"""

_AGE: Final = sql.SQL("archived.created_at < now() - make_interval(days => {days})")

# JSON has line breaks only between its parts, where a space says the same. `.*` is the row even where a column has its name.
_JSON: Final = sql.SQL(r"translate(row_to_json({row}.*)::text, E'\n\r', '  ')")

# out: the columns of Line.
_LINES: Final = sql.SQL("""
SELECT line.place, archived.created_at::text, archived.id::text, line.row
FROM (SELECT * FROM {table} AS archived WHERE {these} ORDER BY archived.created_at, archived.id LIMIT {limit}) AS archived
CROSS JOIN LATERAL ({parts}) AS line (place, row)
ORDER BY archived.created_at, archived.id, line.place, line.row COLLATE "C"
""")

_LOCK: Final = sql.SQL("""
SELECT count(*) FROM (
    SELECT FROM {table} AS archived WHERE {these} ORDER BY archived.created_at, archived.id FOR UPDATE) AS locked""")

_LOCK_BELONGING: Final = sql.SQL("""
SELECT count(*) FROM (
    SELECT FROM {table} AS archived JOIN {belonging} AS belonging ON {matches} WHERE {these}
    FOR UPDATE OF belonging) AS locked""")

_DELETE: Final = sql.SQL("DELETE FROM {table} AS archived WHERE {these}")
_DELETE_BELONGING: Final = sql.SQL("""
DELETE FROM {belonging} AS belonging USING {table} AS archived WHERE {matches} AND {these}""")

# out: the columns of DeletedRows.
_DELETE_OLDEST: Final = sql.SQL("""
WITH gone AS (
    DELETE FROM {table} AS archived
    WHERE archived.id = ANY (ARRAY(
        SELECT archived.id FROM {table} AS archived WHERE {these}
        ORDER BY archived.created_at, archived.id LIMIT {limit} FOR UPDATE SKIP LOCKED))
    RETURNING archived.*
){belonging}
SELECT (SELECT count(*) FROM gone), last.created_at::text, last.id::text
FROM (SELECT archived.created_at, archived.id FROM gone AS archived
      ORDER BY archived.created_at DESC, archived.id DESC LIMIT 1) AS last""")

_GONE_BELONGING: Final = sql.SQL(
    ", {name} AS (DELETE FROM {belonging} AS belonging USING gone AS archived WHERE {matches})"
)

_ANY_OLD: Final = sql.SQL("SELECT EXISTS (SELECT FROM {table} AS archived WHERE {age})")


@dataclass(frozen=True, slots=True)
class Place:
    """A row's place in the order of archiving: created_at and id, as PostgreSQL writes them with times in UTC."""

    at: str
    id: str


class Line(NamedTuple):
    """One line of an archive, with its row's place or that of the row it belongs to.

    `table` is an index into `Table.names`, 0 for a row of the table itself; `row` is JSON without a line break.
    """

    table: int
    at: str
    id: str
    row: str


class DeletedRows(NamedTuple):
    """How many rows were deleted without a copy, and the place of the last."""

    number: int
    at: str
    id: str


class _ForeignKey(NamedTuple):
    """A foreign key to an archived table: `columns` of the other table refer to `keys`.

    `cascades` when deleting takes the other table's rows along, `deeper` when it goes on below those.
    """

    schema: str
    table: str
    columns: list[str]
    keys: list[str]
    cascades: bool
    deeper: bool


@dataclass(frozen=True, slots=True)
class _Reference:
    """Rows of `table` that refer to the archived ones; `name` is the table's in their lines."""

    name: str
    table: sql.Composable
    matches: sql.Composable


class Table:
    """One archived table, as this database has it now."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
        """Look up `name`, a table of the schema public, in the catalogue."""
        self.name = name
        self._table = sql.SQL("public.") + sql.Identifier(name)
        self._at_type, self._id_type = connection.execute(_COLUMNS, {"table": name}).fetchall()[0]
        known = _BELONGS.get(name)
        self._belonging = [_reference("public", known[0], [known[1]], [known[2]])] if known else []
        self._holding: list[_Reference] = []
        for key in map(_ForeignKey._make, connection.execute(_REFERENCES, {"table": name}).fetchall()):
            reference = _reference(key.schema, key.table, key.columns, key.keys)
            if reference in self._belonging:
                continue
            (self._belonging if key.cascades and not key.deeper else self._holding).append(reference)
        self.names = [name, *(reference.name for reference in self._belonging)]

    @property
    def held_by(self) -> list[str]:
        """Tables whose rows hold those that they refer to: these are not archived."""
        return [reference.name for reference in self._holding]

    def old(self, days: int, after: Place | None) -> sql.Composable:
        """The condition of rows older than `days`, behind `after` where it is given, that nothing holds."""
        conditions = [_AGE.format(days=days), *self._free()]
        if after is not None:
            conditions.append(sql.SQL("(archived.created_at, archived.id) > ") + self._literal(after))
        return sql.SQL(" AND ").join(conditions)

    def between(self, first: Place, last: Place) -> sql.Composable:
        """The condition of rows from `first` to `last`, both included, that nothing holds."""
        order = sql.SQL("(archived.created_at, archived.id) {} {}")
        bounds = [
            order.format(sql.SQL(operator), self._literal(place)) for operator, place in ((">=", first), ("<=", last))
        ]
        return sql.SQL(" AND ").join([*bounds, *self._free()])

    def any_old(self, days: int) -> sql.Composed:
        """The statement that tells whether there are rows older than `days`."""
        return _ANY_OLD.format(table=self._table, age=_AGE.format(days=days))

    def lines(self, these: sql.Composable, limit: int | None = None) -> sql.Composed:
        """The statement that reads up to `limit` of these rows, and what belongs to them, in order: each a Line."""
        parts = [sql.SQL("SELECT 0, ") + _JSON.format(row=sql.Identifier("archived"))]
        parts += [
            sql.SQL("SELECT {place}, {json} FROM {table} AS belonging WHERE {matches}").format(
                place=place, json=_JSON.format(row=sql.Identifier("belonging")), table=reference.table, matches=reference.matches
            )
            for place, reference in enumerate(self._belonging, 1)
        ]  # fmt: skip
        return _LINES.format(table=self._table, these=these, limit=limit, parts=sql.SQL(" UNION ALL ").join(parts))

    def locks(self, these: sql.Composable) -> list[sql.Composed]:
        """The statements that lock these rows and those that belong to them, in that order."""
        belonging = [
            _LOCK_BELONGING.format(table=self._table, these=these, belonging=r.table, matches=r.matches)
            for r in self._belonging
        ]
        return [_LOCK.format(table=self._table, these=these), *belonging]

    def deletes(self, these: sql.Composable) -> list[sql.Composed]:
        """The statements that delete what belongs to these rows, and last the rows themselves."""
        belonging = [
            _DELETE_BELONGING.format(table=self._table, these=these, belonging=r.table, matches=r.matches)
            for r in self._belonging
        ]
        return [*belonging, _DELETE.format(table=self._table, these=these)]

    def delete_oldest(self, these: sql.Composable, limit: int) -> sql.Composed:
        """The statement that deletes up to `limit` of these rows, without the locked ones: DeletedRows, or nothing."""
        belonging = [
            _GONE_BELONGING.format(name=sql.Identifier(f"gone_{place}"), belonging=r.table, matches=r.matches)
            for place, r in enumerate(self._belonging)
        ]
        return _DELETE_OLDEST.format(table=self._table, these=these, limit=limit, belonging=sql.Composed(belonging))

    def _free(self) -> list[sql.Composable]:
        return [
            sql.SQL("NOT EXISTS (SELECT FROM {} AS belonging WHERE {})").format(reference.table, reference.matches)
            for reference in self._holding
        ]

    def _literal(self, place: Place) -> sql.Composable:
        at_type, id_type = sql.SQL(self._at_type), sql.SQL(self._id_type)
        return sql.SQL("({}::{}, {}::{})").format(place.at, at_type, place.id, id_type)


def _reference(schema: str, table: str, columns: list[str], keys: list[str]) -> _Reference:
    matches = sql.SQL(" AND ").join(
        sql.SQL("belonging.{} = archived.{}").format(sql.Identifier(column), sql.Identifier(key))
        for column, key in zip(columns, keys, strict=True)
    )
    name = table if schema == "public" else f"{schema}.{table}"
    return _Reference(name, sql.SQL("{}.{}").format(sql.Identifier(schema), sql.Identifier(table)), matches)
