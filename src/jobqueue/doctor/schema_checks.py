"""Checks of the tables: migrations, rights, and what of a queue has gone missing since it was adopted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import errors

from jobqueue import migrations
from jobqueue.doctor.checkup import Checkup, Verdict, fail, named, warn, well

if TYPE_CHECKING:
    from collections.abc import Iterator

_VANISHED: Final = b"""
SELECT name, format('DELETE FROM jobqueue.queues WHERE name = %%L;', name) FROM jobqueue.queues
WHERE to_regclass(table_name) IS NULL ORDER BY name"""

_LACKED: Final = b"SELECT jobqueue.missing_rights()"

# Tables of which row-level security lets the role see nothing.
_HIDDEN: Final = b"""
SELECT DISTINCT w.target::regclass::text, quote_ident(current_user) FROM jobqueue.wanted_rights() AS w
WHERE w.role = 'jobqueue_worker' AND w.kind <> 'S' AND row_security_active(w.target)
  AND NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = w.target AND p.polpermissive
                  AND (0 = ANY (p.polroles) OR EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE pg_has_role(r, 'USAGE'))))
ORDER BY 1"""

_INVALID: Final = b"""
SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND i.indrelid IN (SELECT to_regclass(table_name) FROM jobqueue.queues)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.index_relid = i.indexrelid)
ORDER BY 1"""

_DISABLED: Final = b"""
SELECT q.table_name, quote_ident(t.tgname) FROM jobqueue.queues AS q
JOIN pg_trigger AS t ON t.tgrelid = to_regclass(q.table_name)
WHERE NOT t.tgisinternal AND t.tgname LIKE 'jobqueue%%' AND t.tgenabled IN ('D', 'R')
ORDER BY 1, 2"""

# A queue as this version makes it. It is seen by nobody, and undone.
_PROBE: Final = """
SET LOCAL statement_timeout = '5s';
CREATE TABLE jobqueue.doctor_probe (id bigint PRIMARY KEY);
SELECT jobqueue.adopt('jobqueue.doctor_probe');"""

# What each queue lacks of it, and the statement that mends it: to adopt a table again adds what is missing.
_MISSING: Final = """
WITH part (relation, what) AS (
    SELECT attrelid, 'the column ' || attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT tgrelid, 'the trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'jobqueue%'
    UNION ALL
    SELECT indrelid, 'the index ' || split_part(substr(obj_description(indexrelid, 'pg_class'), 11), ',', 1)
    FROM pg_index WHERE obj_description(indexrelid, 'pg_class') LIKE 'jobqueue: %')
SELECT q.table_name, array_agg(wanted.what ORDER BY wanted.what), format('SELECT jobqueue.adopt(%L);', q.table_name)
FROM jobqueue.queues AS q
CROSS JOIN (SELECT what FROM part WHERE relation = 'jobqueue.doctor_probe'::regclass) AS wanted
WHERE to_regclass(q.table_name) IS NOT NULL AND q.table_name <> 'jobqueue.doctor_probe'
  AND NOT EXISTS (SELECT FROM part WHERE part.relation = to_regclass(q.table_name) AND part.what = wanted.what)
GROUP BY 1, 3 ORDER BY 1"""

_DEAD: Final = b"""
SELECT q.table_name, s.n_dead_tup FROM jobqueue.queues AS q
JOIN pg_stat_user_tables AS s ON s.relid = to_regclass(q.table_name)
WHERE s.n_dead_tup > %(most)s AND s.n_dead_tup > s.n_live_tup
ORDER BY s.n_dead_tup DESC"""

_UNVACUUMED: Final = b"""
SELECT q.table_name FROM jobqueue.queues AS q JOIN pg_class AS c ON c.oid = to_regclass(q.table_name)
WHERE 'autovacuum_enabled=false' = ANY (c.reloptions) OR 'autovacuum_enabled=off' = ANY (c.reloptions)
ORDER BY 1"""


def migrated(checkup: Checkup) -> Verdict:
    """The database is at this version."""
    try:
        missing = migrations.pending_in(checkup.connection)
    except migrations.MigrationError as error:
        says, _, remedy = str(error).rpartition("; ")
        return fail(says or remedy, remedy)
    if missing:
        what = "1 migration is" if len(missing) == 1 else f"{len(missing)} migrations are"
        return fail(f"{what} missing, from {missing[0].version:04d}_{missing[0].name} on", "run `jobqueue migrate`")
    checkup.facts.add("schema")
    return well("every migration is applied")


def vanished_queues(checkup: Checkup) -> Verdict:
    """Every queue still has its table."""
    for name, remedy in checkup.rows(_VANISHED):
        return warn(f"the queue {name} is registered, and its table is gone", f"create the table again, or {remedy}")
    return well("every queue has its table")


def table_rights(checkup: Checkup) -> Verdict:
    """The role may do what a worker does."""
    lacked = [statement for (statement,) in checkup.rows(_LACKED)]
    if lacked:
        return fail(f"the role lacks {len(lacked)} of the rights that a worker uses", "; ".join(lacked) + ";")
    return well("the role has every right that a worker uses")


def row_security(checkup: Checkup) -> Verdict:
    """No row-level security hides every row from the role."""
    for table, role in checkup.rows(_HIDDEN):
        return fail(
            f"row-level security hides every row of {table} from the role",
            f"CREATE POLICY jobqueue_worker ON {table} TO {role} USING (true) WITH CHECK (true);",
        )
    return well("row-level security hides no table from the role")


def drift(checkup: Checkup) -> Verdict:
    """Every queue has the columns, triggers and indexes that this version gives a table."""
    try:
        with checkup.connection.transaction(force_rollback=True):
            checkup.connection.execute(_PROBE)
            found = checkup.connection.execute(_MISSING).fetchall()
    except errors.InsufficientPrivilege:
        return well("not looked at: the role may create no table to compare with")
    for table, parts, remedy in found:
        return fail(f"{table} lacks {named(parts)}", remedy)
    return well("every queue has its columns, triggers and indexes")


def disabled_triggers(checkup: Checkup) -> Verdict:
    """Every trigger of ours fires."""
    for table, trigger in checkup.rows(_DISABLED):
        return fail(f"the trigger {trigger} of {table} is disabled", f"ALTER TABLE {table} ENABLE TRIGGER {trigger};")
    return well("every trigger of a queue fires")


def invalid_indexes(checkup: Checkup) -> Verdict:
    """No index was left half built."""
    for (index,) in checkup.rows(_INVALID):
        return warn(
            f"the index {index} was left half built: it costs, and serves nothing",
            f"REINDEX INDEX CONCURRENTLY {index};",
        )
    return well("every index of a queue is whole")


def dead_rows(checkup: Checkup) -> Iterator[Verdict]:
    """Dead rows are removed."""
    unvacuumed = checkup.rows(_UNVACUUMED)
    for (table,) in unvacuumed:
        yield warn(f"autovacuum is switched off for {table}", f"ALTER TABLE {table} RESET (autovacuum_enabled);")
    dead = checkup.rows(_DEAD, most=checkup.limits.dead_rows)
    for table, number in dead[:1]:
        yield warn(f"{table} has {number:,} dead rows, more than live ones", f"VACUUM {table};")
    if not unvacuumed and not dead:
        yield well("dead rows are removed")
