"""A server set up as Supabase's are: who owns the database is no superuser, everything in `public` is granted to the roles of the
Data API by default, and row-level security is what keeps them out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors, sql
from tests.hostile_settings.day import Day
from tests.support.daemon import launching

from jobqueue.migrations import migrate
from jobqueue.roles.database_roles import grant_roles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.roles.helpers import Administered
    from tests.support.s3 import Bucket

_API = """
DO $$ BEGIN
    IF to_regrole('anon') IS NULL THEN
        CREATE ROLE anon NOLOGIN;
        CREATE ROLE authenticated NOLOGIN;
        CREATE ROLE service_role NOLOGIN BYPASSRLS;
    END IF;
END $$;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE admin IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE admin IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE admin IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
GRANT CREATE ON SCHEMA public TO admin"""

_OURS = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace{more}) ORDER BY 1"


@pytest.fixture
def supabase(untouched: Administered) -> Administered:
    """One that its owner has migrated, before there were any roles."""
    untouched.rows(_API)
    migrate(untouched.admin)
    return untouched


def _secure(supabase: Administered, *, forced: bool = False, more: str = "") -> None:
    for (table,) in supabase.rows(_OURS.format(more=more)):
        supabase.rows(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        if forced:
            supabase.rows(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


@contextmanager
def _as(supabase: Administered, role: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(supabase.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        yield connection


def test_what_the_world_may_read_is_told(supabase: Administered) -> None:
    told = supabase.let_in()
    assert (
        "anon and authenticated may read or write public.app_webhooks through the Data API, which has no row-level security: "
        "ALTER TABLE public.app_webhooks ENABLE ROW LEVEL SECURITY; and run `jobqueue migrate` again"
    ) in told
    assert len([each for each in told if "Data API" in each]) == len(supabase.rows(_OURS.format(more="")))
    _secure(supabase)
    assert [each for each in grant_roles(supabase.admin) if "Data API" in each] == []


def test_tables_of_jobqueue_migrate_are_nobodys(untouched: Administered) -> None:
    untouched.rows(_API)
    untouched.let_in()
    assert [each for each in untouched.migrate() if "Data API" in each] == []
    untouched.session("admin").execute(b"GRANT jobqueue_host TO service_role")
    with _as(untouched, "service_role") as host:
        host.execute(b"INSERT INTO jobs (kind) VALUES ('x')")
    with _as(untouched, "anon") as world, pytest.raises(errors.InsufficientPrivilege):
        world.execute(b"SELECT FROM app_webhooks")


def test_who_enqueues_there_does_so_as_before(supabase: Administered) -> None:
    supabase.rows("INSERT INTO app_webhooks (webhook_url) VALUES ('https://example.com')")
    _secure(supabase)
    supabase.let_in()
    supabase.rows("CREATE POLICY mine ON jobs FOR INSERT TO authenticated WITH CHECK (kind = 'mine')")
    enqueue = b"INSERT INTO jobs (kind, unique_key) VALUES ('mine', 'k')"
    with _as(supabase, "service_role") as host:
        host.execute(enqueue)
        host.execute(b"INSERT INTO platform_events (event_type) VALUES ('a.b')")
    with _as(supabase, "authenticated") as client:
        client.execute(enqueue)
        with pytest.raises(errors.InsufficientPrivilege):
            client.execute(b"INSERT INTO jobs (kind) VALUES ('of-another')")
        with pytest.raises(errors.InsufficientPrivilege):
            client.execute(b"SELECT * FROM jobqueue.queues")
    with _as(supabase, "anon") as world:
        with pytest.raises(errors.InsufficientPrivilege):
            world.execute(b"INSERT INTO jobs (kind) VALUES ('mine')")
        assert world.execute(b"SELECT webhook_secret FROM app_webhooks").fetchall() == []
    assert supabase.rows("SELECT count(*) FROM jobs") == [(1,)]
    assert supabase.rows("SELECT count(*) FROM webhook_deliveries") == [(1,)]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("forced", [False, True], ids=["", "forced"])
def test_a_day_with_row_level_security_on_every_table(
    supabase: Administered, bucket: Bucket, tmp_path: Path, forced: bool
) -> None:
    supabase.let_in()
    _secure(supabase, more=", 'jobqueue'::regnamespace")
    _secure(supabase, forced=forced)
    assert grant_roles(supabase.admin) == []
    assert supabase.rows("SELECT rolbypassrls FROM pg_roles WHERE rolname = 'jobqueue_worker'") == [(False,)]
    addresses = {**supabase.addresses, "migrate": supabase.admin}
    with launching(tmp_path) as launch:
        Day(supabase.dsn, supabase.dsn, bucket, launch, tmp_path, addresses).pass_()
