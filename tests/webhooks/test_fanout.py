"""An event becomes deliveries in the transaction that writes it, for those that subscribed and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from jobqueue.migrations import MigrationError, migrate

if TYPE_CHECKING:
    from tests.webhooks.helpers import Yard


def happen(yard: Yard, type_: str | None, category: str | None = None, app: str | None = None) -> None:
    yard.sql(
        "INSERT INTO platform_events (event_type, event_category, app_id) VALUES (%(type)s, %(category)s, %(app)s)",
        type=type_, category=category, app=app,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "type_", "category", "matches"),
    [
        (["*"], "user.made", None, True),
        (["*"], None, None, True),
        (["user.*"], "user.made", None, True),
        (["user.*"], "user.made.twice", None, True),
        (["user.*"], "users.made", None, False),
        (["user.*"], "user", None, False),
        (["user.*"], "superuser.made", None, False),
        (["user.made"], "user.made", None, True),
        (["user.made"], "user.made.twice", None, False),
        (["*.made"], "user.made", None, True),
        (["u_er.*"], "user.made", None, False),
        (["%"], "user.made", None, False),
        (["\\*"], "user.made", None, False),
        ([" user.* "], "user.made", None, True),
        (["order.*", "user.*"], "user.made", None, True),
        (["user.*"], "made", "user", True),
        (["user.*"], "order.made", "user", False),
        (["USER.*"], "user.made", None, False),
        ([], "user.made", None, False),
        (None, "user.made", None, False),
    ],
)
def test_patterns(
    yard: Yard, patterns: list[str] | None, type_: str | None, category: str | None, matches: bool
) -> None:
    yard.webhook("https://example.com", subscribed_events=patterns)
    happen(yard, type_, category)
    assert len(yard.rows()) == matches


def test_each_active_webhook_has_one_delivery_and_others_none(yard: Yard) -> None:
    hooks = {yard.webhook("https://example.com") for _ in range(3)}
    yard.webhook("https://example.com", is_active=False)
    yard.sql("INSERT INTO platform_events (event_type) SELECT 'load.' || n FROM generate_series(1, 100) AS n")
    made = yard.sql("SELECT webhook_id, count(*), count(DISTINCT event_id) FROM webhook_deliveries GROUP BY 1")
    assert {(hook, 100, 100) for hook in hooks} == set(made)
    assert {row["status"] for row in yard.rows()} == {"pending"}


def test_apps_are_not_told_of_each_others_events(yard: Yard) -> None:
    one, other, any_ = (yard.webhook("https://example.com", app_id=app) for app in ("one", "other", None))
    happen(yard, "user.made", app="one")
    assert {row["webhook_id"] for row in yard.rows()} == {one, any_}
    happen(yard, "user.made", app="other")
    assert [row["webhook_id"] for row in yard.rows()].count(other) == 1


def test_what_the_host_takes_back_was_never_delivered(yard: Yard) -> None:
    yard.webhook("https://example.com")
    with psycopg.connect(yard.dsn) as connection:
        connection.execute(b"INSERT INTO platform_events (event_type) VALUES ('user.made')")
        assert connection.execute(b"SELECT count(*) FROM webhook_deliveries").fetchone() == (1,)
        connection.rollback()
    assert yard.rows() == []


def test_a_webhook_that_somebody_holds_does_not_stop_an_event(yard: Yard) -> None:
    yard.webhook("https://example.com")
    with psycopg.connect(yard.dsn) as holder:
        holder.execute(b"SELECT FROM app_webhooks FOR UPDATE")
        yard.sql("SET lock_timeout = '1s'")
        happen(yard, "user.made")
    assert len(yard.rows()) == 1


def test_a_host_that_may_only_insert_events_makes_deliveries(yard: Yard) -> None:
    yard.webhook("https://example.com")
    yard.sql("DO $$ BEGIN CREATE ROLE narrow_host; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    yard.sql("GRANT INSERT ON platform_events TO narrow_host")
    yard.sql("SET ROLE narrow_host")
    happen(yard, "user.made")
    yard.sql("RESET ROLE")
    assert len(yard.rows()) == 1


def test_a_webhook_that_is_switched_on_again_begins_anew(yard: Yard) -> None:
    yard.webhook("https://example.com", is_active=False, consecutive_failures=100, disabled_reason="away")
    yard.sql("UPDATE app_webhooks SET is_active = true")
    hook = yard.row("app_webhooks")
    assert (hook["consecutive_failures"], hook["disabled_reason"]) == (0, None)
    yard.sql("UPDATE app_webhooks SET consecutive_failures = 7, is_active = true")
    assert yard.row("app_webhooks")["consecutive_failures"] == 7


def test_new_webhooks_have_a_secret_of_their_own(yard: Yard) -> None:
    yard.sql("INSERT INTO app_webhooks (webhook_url) VALUES ('https://a.example.com'), ('https://b.example.com')")
    first, second = (row["webhook_secret"] for row in yard.rows("app_webhooks"))
    assert first != second
    assert len(first) == len("whsec_") + 44


def test_attempts_are_added_up_in_their_order(yard: Yard) -> None:
    hook = yard.webhook("https://example.com", consecutive_failures=50)
    yard.sql(
        "INSERT INTO jobqueue.webhook_attempts (webhook_id, succeeded, reason)"
        " SELECT %(hook)s, n = 3, 'failure ' || n FROM generate_series(1, 5) AS n", hook=hook,
    )  # fmt: skip
    assert yard.sql("SELECT jobqueue.tally_webhooks(100)") == [(5,)]
    row = yard.row("app_webhooks")
    assert (row["consecutive_failures"], row["total_deliveries"], row["total_failures"]) == (2, 5, 4)
    assert row["is_active"]
    yard.sql(
        "INSERT INTO jobqueue.webhook_attempts (webhook_id, succeeded, reason)"
        " SELECT %(hook)s, false, 'failure ' || n FROM generate_series(1, 98) AS n", hook=hook,
    )  # fmt: skip
    yard.sql("SELECT jobqueue.tally_webhooks(100)")
    row = yard.row("app_webhooks")
    assert (row["consecutive_failures"], row["is_active"]) == (100, False)
    assert row["disabled_reason"] == "100 deliveries in a row failed, the last because failure 98"


def test_tables_of_a_host_are_completed_with_their_rows_and_key_types(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as host:
        host.execute(b"""
            CREATE TABLE platform_events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text);
            CREATE TABLE app_webhooks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, webhook_url text, webhook_secret text);
            CREATE TABLE webhook_deliveries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                webhook_id bigint REFERENCES app_webhooks ON DELETE CASCADE, status varchar(9) DEFAULT 'pending', payload jsonb);
            CREATE TABLE platform_notifications (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
            CREATE TABLE notification_state (notification_id bigint, user_id uuid, status text CHECK (status IN ('unread', 'read')));
            INSERT INTO app_webhooks (webhook_url, webhook_secret) VALUES ('https://example.com', 'old');
            INSERT INTO webhook_deliveries (webhook_id, payload) VALUES (1, '{}');
            INSERT INTO notification_state VALUES (1, gen_random_uuid(), 'read')""")
        migrate(database)
        host.execute(b"INSERT INTO platform_events (event_type) VALUES ('user.made')")
        assert host.execute(b"SELECT webhook_id, event_id, status, max_retries FROM webhook_deliveries ORDER BY id").fetchall() == [
            (1, None, "pending", 5), (1, 1, "pending", 5),
        ]  # fmt: skip
        assert host.execute(b"SELECT webhook_secret, is_active FROM app_webhooks").fetchall() == [("old", True)]
        host.execute(b"UPDATE notification_state SET status = 'expired', expired_at = now()")


def test_a_reference_of_another_type_stops_the_migration_and_not_the_hosts_inserts(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as host:
        host.execute(b"CREATE TABLE webhook_deliveries (id bigint PRIMARY KEY, webhook_id text)")
        with pytest.raises(MigrationError, match=r"webhook_deliveries\.webhook_id is text, what it refers to is uuid"):
            migrate(database)
