"""Tables of a host's own: adopted, grown, and owned by somebody else than who migrates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors

from jobqueue.kernel import Queue, Worker, WorkerOptions
from jobqueue.roles.database_roles import grant_roles, make_roles

if TYPE_CHECKING:
    from tests.roles.helpers import Administered

_SHOP = """
CREATE ROLE {shop} NOLOGIN;
CREATE SCHEMA shop AUTHORIZATION {shop};
SET ROLE {shop};
CREATE TABLE shop.invoices (id serial8 PRIMARY KEY, number text);
RESET ROLE"""


@pytest.fixture
def shop(administered: Administered) -> Administered:
    """One with a table of a role of its own, of which jobqueue_migrate is no member yet."""
    administered.migrate()
    administered.rows(_SHOP.format(shop=_shop(administered)))
    return administered


def _shop(administered: Administered) -> str:
    return f"shop_{administered.root.info.dbname}"


def test_an_adopted_table_is_given_to_the_roles(shop: Administered) -> None:
    shop.rows(f"GRANT {_shop(shop)} TO jobqueue_migrate")
    migrate, host, reader = shop.session("migrate"), shop.session("host"), shop.session("reader")
    migrate.execute(b"SELECT jobqueue.adopt('shop.invoices')")
    assert host.execute(b"INSERT INTO shop.invoices (number) VALUES ('n') RETURNING id").fetchall() == [(1,)]
    with pytest.raises(errors.InsufficientPrivilege):
        host.execute(b"INSERT INTO shop.invoices (number, started_at) VALUES ('n', now())")
    seen: list[str] = []
    queue = Queue("invoices", lambda job, _: seen.append(job.columns["number"]), columns=("number",))
    Worker(WorkerOptions(shop.addresses["worker"]), [queue]).run_once(20.0)
    assert seen == ["n"]
    assert reader.execute(b"SELECT number, status FROM shop.invoices").fetchall() == [("n", "completed")]
    with pytest.raises(errors.InsufficientPrivilege):
        shop.session("worker").execute(b"UPDATE shop.invoices SET number = 'mine'")


def test_a_column_that_came_later(shop: Administered) -> None:
    shop.rows(f"GRANT {_shop(shop)} TO jobqueue_migrate")
    shop.session("migrate").execute(b"SELECT jobqueue.adopt('shop.invoices')")
    shop.rows("ALTER TABLE shop.invoices ADD COLUMN total int")
    host = shop.session("host")
    with pytest.raises(errors.InsufficientPrivilege):
        host.execute(b"INSERT INTO shop.invoices (total) VALUES (1)")
    assert grant_roles(shop.addresses["migrate"]) == []
    host.execute(b"INSERT INTO shop.invoices (total) VALUES (1)")


def test_a_table_of_somebody_elses(shop: Administered) -> None:
    with pytest.raises(
        errors.InsufficientPrivilege, match=r"must be owner of table invoices|permission denied for schema shop"
    ):
        shop.session("migrate").execute(b"SELECT jobqueue.adopt('shop.invoices')")


def test_what_a_superuser_adopted_is_told_to_who_migrates(shop: Administered) -> None:
    shop.rows("SELECT jobqueue.adopt('shop.invoices')")
    shop.rows("REVOKE ALL ON shop.invoices FROM jobqueue_reader")
    owner = _shop(shop)
    told = grant_roles(shop.addresses["migrate"])
    assert told[0] == (
        f"shop.invoices belongs to {owner}, and jobqueue_migrate may not grant what the roles need on it: "
        f"run `jobqueue roles --apply` as {owner}, or GRANT {owner} TO jobqueue_migrate; and run this again"
    )
    assert any(
        each.endswith('ALTER FUNCTION jobqueue."enter invoices"() OWNER TO jobqueue_migrate;') for each in told
    ), told
    assert make_roles(shop.dsn) == told[1:]
    for each in told[1:]:
        shop.rows(each.rpartition(": ")[2])
    assert make_roles(shop.dsn) == []


def test_rows_that_belong_to_events_are_archived_with_them(shop: Administered) -> None:
    shop.rows(
        "CREATE TABLE mine (event uuid REFERENCES platform_events ON DELETE CASCADE, note text);"
        "CREATE TABLE held (event uuid REFERENCES platform_events);"
        "CREATE TABLE apart (event uuid REFERENCES platform_events ON DELETE SET NULL)"
    )
    assert make_roles(shop.dsn) == []
    worker = shop.session("worker")
    worker.execute(b"SELECT note FROM mine FOR UPDATE")
    worker.execute(b"DELETE FROM mine")
    worker.execute(b"SELECT FROM held")
    for statement in (b"UPDATE mine SET note = ''", b"DELETE FROM held", b"SELECT FROM apart"):
        with pytest.raises(errors.InsufficientPrivilege):
            worker.execute(statement)


def test_functions_that_nobody_may_call_by_default(untouched: Administered) -> None:
    untouched.let_in()
    untouched.rows("ALTER DEFAULT PRIVILEGES FOR ROLE jobqueue_migrate REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    try:
        assert untouched.migrate() == []
        untouched.rows("INSERT INTO app_webhooks (webhook_url) VALUES ('https://example.com')")
        host = untouched.session("host")
        host.execute(b"INSERT INTO platform_events (event_type) VALUES ('a.b')")
        host.execute(b"INSERT INTO webhook_deliveries (webhook_id) VALUES (gen_random_uuid())")
        host.execute(b"INSERT INTO jobs (kind, unique_key) VALUES ('x', 'k')")
        Worker(WorkerOptions(untouched.addresses["worker"]), [Queue("jobs", lambda *_: None)]).run_once(20.0)
        assert untouched.rows("SELECT status FROM jobs") == [("completed",)]
    finally:
        untouched.rows("ALTER DEFAULT PRIVILEGES FOR ROLE jobqueue_migrate GRANT EXECUTE ON FUNCTIONS TO PUBLIC")


def test_a_schema_that_everybody_may_write_to_is_told(administered: Administered) -> None:
    administered.migrate()
    administered.rows("GRANT CREATE ON SCHEMA public TO PUBLIC")
    [told] = make_roles(administered.dsn)
    assert told.startswith("every role may create objects in the schema public")
    administered.rows(told.rpartition("; ")[2])
    assert make_roles(administered.dsn) == []


def test_a_role_of_ones_own_is_a_member(administered: Administered) -> None:
    administered.migrate()
    name = f"app_{administered.root.info.dbname}"
    administered.session("admin").execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'p' IN ROLE jobqueue_host, jobqueue_reader".encode()
    )
    conninfo = psycopg.conninfo.make_conninfo(administered.dsn, user=name, password="p")
    with psycopg.connect(conninfo, autocommit=True) as app:
        [(job,)] = app.execute(b"INSERT INTO jobs (kind) VALUES ('x') RETURNING id").fetchall()
        assert app.execute(b"SELECT status FROM jobs WHERE id = %s", [job]).fetchall() == [("pending",)]
