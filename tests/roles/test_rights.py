"""What each role may do, and nothing besides: by the catalog, and by what it is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from psycopg import errors
from tests.roles.helpers import Administered
from tests.structure.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres

_ON_TABLES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")

# Everything that the three roles may do with tables and sequences, asked of the server: whole tables, or their columns.
_HELD = """
SELECT r.rolname, c.oid::regclass::text, p.privilege, CASE
    WHEN c.relkind = 'S' OR has_table_privilege(r.oid, c.oid, p.privilege) THEN NULL
    ELSE ARRAY(SELECT a.attname::text FROM pg_attribute AS a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 AND has_column_privilege(r.oid, c.oid, a.attnum, p.privilege)
               ORDER BY a.attnum) END
FROM pg_class AS c
CROSS JOIN unnest(%s::text[]) AS r (rolname)
JOIN pg_roles AS known USING (rolname)
CROSS JOIN unnest(%s::text[]) AS p (privilege)
WHERE c.relnamespace IN ('public'::regnamespace, 'jobqueue'::regnamespace)
  AND CASE WHEN c.relkind = 'S' THEN p.privilege IN ('USAGE', 'SELECT', 'UPDATE') AND has_sequence_privilege(r.rolname, c.oid, p.privilege)
           WHEN c.relkind = 'r' AND p.privilege IN ('DELETE', 'TRUNCATE', 'TRIGGER') THEN has_table_privilege(r.rolname, c.oid, p.privilege)
           WHEN c.relkind = 'r' AND p.privilege <> 'USAGE' THEN has_any_column_privilege(r.rolname, c.oid, p.privilege) END
ORDER BY 1, 2, 3""".replace("r.oid", "r.rolname")

_WORK = """
INSERT INTO public.jobs (kind, unique_key) VALUES ('x', 'k');
UPDATE public.jobs SET status = 'processing';
"""


@pytest.fixture(scope="module")
def administered(cluster: Postgres) -> Iterator[Administered]:
    """One that has been migrated, for all tests of this module."""
    with Administered(cluster.create_database("rights")) as administered:
        administered.let_in()
        administered.migrate()
        administered.rows(_WORK)
        administered.rows("INSERT INTO public.app_webhooks (webhook_url) VALUES ('https://example.com')")
        yield administered
    cluster.drop_database("rights")


def test_the_roles_hold_what_is_written_down_and_no_more(administered: Administered) -> None:
    roles = ["jobqueue_worker", "jobqueue_host", "jobqueue_reader"]
    held = administered.rows(_HELD, roles, [*_ON_TABLES, "USAGE"])
    wanted = administered.rows(
        "SELECT role, target::text, privilege, columns FROM jobqueue.wanted_rights() ORDER BY 1, 2, 3"
    )
    assert held == wanted


def test_nobody_may_make_anything_but_who_migrates(administered: Administered) -> None:
    assert administered.rows(
        "SELECT r.rolname, n.nspname FROM pg_roles AS r, pg_namespace AS n"
        " WHERE r.rolname LIKE 'jobqueue%' AND n.nspname IN ('public', 'jobqueue') AND has_schema_privilege(r.oid, n.oid, 'CREATE')"
        " AND NOT (n.nspname = 'public' AND current_setting('server_version_num')::int < 150000) ORDER BY 1, 2"
    ) == [("jobqueue_migrate", "jobqueue")] + (
        [("jobqueue_migrate", "public")] if administered.root.info.server_version >= 150000 else []
    )
    assert (
        administered.rows(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'jobqueue%' AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)"
        )
        == []
    )


_REFUSED = {
    "host": (
        "SELECT webhook_secret FROM public.app_webhooks",
        "SELECT webhook_url FROM public.app_webhooks",
        "INSERT INTO public.app_webhooks (webhook_url) VALUES ('https://elsewhere.example')",
        "INSERT INTO public.schedules (name, kind) VALUES ('mine', 'heartbeat')",
        "SELECT payload FROM public.jobs",
        "UPDATE public.jobs SET status = 'completed'",
        "DELETE FROM public.jobs",
        "TRUNCATE public.jobs",
        "INSERT INTO public.jobs (kind, lease_token) VALUES ('x', gen_random_uuid())",
        "INSERT INTO public.jobs (kind, position) VALUES ('x', 1)",
        "INSERT INTO public.jobs (kind, schedule, tick_at) VALUES ('x', 'heartbeat', now())",
        "INSERT INTO public.auction_files (source_key, cdn_key_prefix) VALUES ('a', 'publish/of-another')",
        "INSERT INTO public.publish_jobs (file_id, key_prefix) VALUES (gen_random_uuid(), 'publish/of-another')",
        "SELECT * FROM jobqueue.queues",
        "SELECT * FROM jobqueue.backend_settings",
        "SELECT nextval('jobqueue.position')",
        "SELECT jobqueue.adopt('public.jobs')",
        "SELECT jobqueue.tally_webhooks(1)",
    ),
    "reader": (
        "SELECT webhook_secret FROM public.app_webhooks",
        "SELECT * FROM public.app_webhooks",
        "INSERT INTO public.jobs (kind) VALUES ('x')",
        "UPDATE public.jobs SET status = 'pending'",
        "UPDATE public.schedules SET paused_at = now()",
        "DELETE FROM jobqueue.attempts",
        "SELECT FROM public.jobs FOR UPDATE",
        "SELECT nextval('jobqueue.position')",
        "SELECT jobqueue.adopt('public.jobs')",
        "SELECT jobqueue.keep_settings(1, '{}')",
    ),
    "worker": (
        "UPDATE public.jobs SET payload = '{}'",
        "UPDATE public.app_webhooks SET webhook_url = 'https://elsewhere.example'",
        "UPDATE public.app_webhooks SET webhook_secret = 'mine'",
        "INSERT INTO public.app_webhooks (webhook_url) VALUES ('https://elsewhere.example')",
        "UPDATE public.projects SET name = 'mine'",
        "UPDATE jobqueue.queues SET table_name = 'public.projects'",
        "DELETE FROM jobqueue.migrations",
        "INSERT INTO jobqueue.rights VALUES ('jobqueue_worker', 'public.projects', 'DELETE')",
        "ALTER TABLE public.jobs ADD COLUMN mine int",
        "CREATE FUNCTION jobqueue.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "TRUNCATE public.jobs",
        "SET ROLE jobqueue_migrate",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("role", "statement"), [(role, each) for role in _REFUSED for each in _REFUSED[role]])
def test_what_a_role_is_refused(administered: Administered, role: str, statement: str) -> None:
    session = administered.session(role)
    with pytest.raises(errors.InsufficientPrivilege):
        session.execute(statement.encode())


def test_a_host_enqueues_and_learns_the_id(administered: Administered) -> None:
    host = administered.session("host")
    [(file,)] = host.execute(b"INSERT INTO auction_files (source_key) VALUES ('a') RETURNING id").fetchall()
    for statement in (
        "INSERT INTO publish_jobs (file_id, priority) VALUES (%(file)s, 9) RETURNING id",
        "INSERT INTO publish_jobs (file_id, status, created_at) VALUES (%(file)s, 'pending', now())",
        "INSERT INTO jobs (kind, unique_key, run_after) VALUES ('x', 'twin', now() + interval '1 hour') RETURNING id",
        "INSERT INTO jobs (kind, unique_key) VALUES ('x', 'twin')",
        "INSERT INTO platform_events (event_category, event_type) VALUES ('order', 'placed') RETURNING id",
        "INSERT INTO platform_notifications (user_id, expires_at) VALUES ('u', now())",
    ):
        host.execute(statement.encode(), {"file": file})
    [(delivery,)] = administered.rows("SELECT webhook_id FROM webhook_deliveries")
    host.execute(b"INSERT INTO webhook_deliveries (webhook_id, payload) VALUES (%s, '{}') RETURNING id", [delivery])
    assert administered.rows("SELECT count(*) FROM webhook_deliveries") == [(2,)]
    assert administered.rows("SELECT count(*) FROM jobs WHERE unique_key = 'twin' AND position IS NOT NULL") == [(1,)]


def test_what_runs_with_its_owners_rights_pins_where_it_looks(administered: Administered) -> None:
    administered.session("migrate").execute(
        b"CREATE TABLE public.mine (id bigint PRIMARY KEY, key text); SELECT jobqueue.adopt('public.mine', coalesce_by => 'key')"
    )
    found = administered.rows(
        "SELECT p.oid::regprocedure::text, substring(setting FROM '^search_path=(.*)$') FROM pg_proc AS p"
        " LEFT JOIN LATERAL unnest(p.proconfig) AS setting ON setting LIKE 'search_path=%'"
        " WHERE p.prosecdef AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
    )
    assert len(found) >= 10
    # Nobody's temporary objects come first, nor what a host has put in the way of the server's own.
    assert [name for name, path in found if path is None or not re.fullmatch(r"pg_catalog(, .*)?, pg_temp", path)] == []


def test_whatever_a_hosts_write_calls_runs_without_rights_in_our_schema(administered: Administered) -> None:
    """A trigger's function has its owner's rights, or touches nothing but the row that it is called for."""
    found = administered.rows(
        "SELECT DISTINCT p.proname, p.prosrc FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid"
        " JOIN pg_class AS c ON c.oid = t.tgrelid"
        " WHERE NOT t.tgisinternal AND c.relnamespace <> 'jobqueue'::regnamespace AND NOT p.prosecdef"
    )
    assert len(found) >= 10
    assert [name for name, text in found if re.search(r"jobqueue\.|public\.|nextval", text)] == []


# How a statement that needs the right begins. Rows that are locked, or written on a conflict, take UPDATE as well.
_VERBS = {
    "SELECT": r"(?:FROM|JOIN|UPDATE|INTO)\s+{table}\b",
    "INSERT": r"INSERT INTO {table}\b",
    "UPDATE": r"UPDATE {table}\b|INSERT INTO {table}\b[^;]*ON CONFLICT[^;]*DO UPDATE|FROM {table}\b[^;]*FOR (?:NO KEY UPDATE|UPDATE|KEY SHARE|SHARE)",
    "DELETE": r"DELETE FROM {table}\b",
    "USAGE": r"nextval\('{table}'\)",
}

# Tables that statements name in braces: what every claim locks; every queue, and what archival reads and deletes.
_LOCKED_BY_PARTS = {("jobqueue.pauses", "UPDATE"), ("jobqueue.limits", "UPDATE")}
_NAMED_BY_PARTS = {"public.platform_events", "public.platform_notifications", "public.notification_state"}


def test_the_worker_has_no_right_that_no_statement_uses(administered: Administered) -> None:
    # Statements of migrations are the owner's; bodies of functions that run with the caller's rights are not.
    bodies = administered.rows(
        "SELECT prosrc FROM pg_proc WHERE pronamespace = 'jobqueue'::regnamespace AND NOT prosecdef AND prorettype <> 'trigger'::regtype"
    )
    files = [path.read_text() for kind in ("*.py", "*.sql") for path in (ROOT / "src").rglob(kind)]
    said = ";\n".join([*files, *(body for (body,) in bodies)])
    queues = {f"public.{name}" for (name,) in administered.rows("SELECT name FROM jobqueue.queues")}
    wanted = administered.rows(
        "SELECT target, privilege, columns FROM jobqueue.rights WHERE role = 'jobqueue_worker' AND target LIKE '%.%'"
    )
    idle = [
        (target, privilege)
        for target, privilege, _ in wanted
        if target not in queues | _NAMED_BY_PARTS
        and (target, privilege) not in _LOCKED_BY_PARTS
        and not re.search(_VERBS[privilege].format(table=re.escape(target)), said)
    ]
    unwritten = [
        (target, column)
        for target, privilege, columns in wanted
        # That of events is there for the lock alone.
        if privilege == "UPDATE" and target != "public.platform_events"
        for column in columns or ()
        if not re.search(rf"\b{column} = ", said)
    ]
    assert (idle, unwritten) == ([], [])


def test_a_right_for_every_table(administered: Administered) -> None:
    """Whoever adds a table says who may use it."""
    tables = administered.rows(
        "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND (n.nspname = 'jobqueue' OR n.nspname = 'public' AND c.relname <> 'mine')"
        " AND NOT EXISTS (SELECT FROM jobqueue.rights WHERE target = format('%s.%s', n.nspname, c.relname))"
    )
    assert tables == []
