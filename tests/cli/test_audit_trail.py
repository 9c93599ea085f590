"""What operators change is written down: who, what, how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.admin import repair
from jobqueue.admin.audit_trail import audited, operator
from jobqueue.cli.command_database import open_database

if TYPE_CHECKING:
    import pytest
    from tests.cli.helpers import Database, Jobqueue

ENTRIES = "SELECT who, action, target, selection, changed FROM jobqueue.audit ORDER BY id"


def test_a_repair_by_filter(jobqueue: Jobqueue, sql: Database) -> None:
    sql("INSERT INTO jobs (kind, status, error_message) SELECT 'x', 'failed', 'timeout' FROM generate_series(1, 3)")
    jobqueue("jobs", "requeue", "jobs", "--error", "timeout", "--dry-run")
    assert sql(ENTRIES) == []

    jobqueue("jobs", "requeue", "jobs", "--error", "timeout", "--yes")
    assert sql(ENTRIES) == [(operator(), "requeue", "jobs", {"states": ["failed"], "error": "timeout"}, 3)]


def test_repairs_by_id_keep_a_hundred_ids(jobqueue: Jobqueue, sql: Database) -> None:
    sql("INSERT INTO jobs (kind) SELECT 'x' FROM generate_series(1, 120)")
    jobqueue("jobs", "cancel", "jobs", *range(1, 121), "--yes")
    [(_, action, _, selection, changed)] = sql(ENTRIES)

    assert (action, selection["number"], changed) == ("cancel", 120, 120)
    assert selection["ids"] == [str(number) for number in range(1, 101)]


def test_webhooks(jobqueue: Jobqueue, sql: Database) -> None:
    webhook = str(
        sql.value(
            "INSERT INTO app_webhooks (webhook_url, is_active) VALUES ('https://a.example.com', false) RETURNING id"
        )
    )
    jobqueue("webhooks", "enable", webhook)
    sql(
        "INSERT INTO webhook_deliveries (webhook_id, payload, status) VALUES (%s, '{}', 'failed'), (%s, '{}', 'failed')",
        webhook,
        webhook,
    )
    jobqueue("webhooks", "replay", webhook, "--yes")

    assert [entry[1:] for entry in sql(ENTRIES)] == [
        ("enable", "app_webhooks", {"ids": [webhook]}, 1),
        ("replay", webhook, {"states": ["failed", "cancelled"]}, 2),
    ]  # fmt: skip


def test_what_was_done_before_an_interruption_counts(
    jobqueue: Jobqueue, sql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "BATCH", 2)
    sql("INSERT INTO jobs (kind) SELECT 'x' FROM generate_series(1, 5)")
    sql("CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no more''; END'")
    sql("CREATE TRIGGER stop BEFORE UPDATE ON jobs FOR EACH ROW WHEN (NEW.id = 4) EXECUTE FUNCTION stop()")

    assert jobqueue("jobs", "cancel", "jobs", "--all", "--yes").code == 1
    assert sql("SELECT changed FROM jobqueue.audit") == [(2,)]


def test_what_cannot_be_written_down_is_not_done(jobqueue: Jobqueue, sql: Database) -> None:
    sql("INSERT INTO jobs (kind) VALUES ('x')")
    sql("DROP TABLE jobqueue.audit")

    assert jobqueue("jobs", "cancel", "jobs", "--all", "--yes").code == 1
    assert sql.value("SELECT status FROM jobs") == "pending"


def test_an_entry_under_way_has_no_number_yet(jobqueue: Jobqueue, sql: Database) -> None:
    with open_database() as connection, audited(connection, "requeue", "jobs", {}, "maria") as entry:
        assert sql(ENTRIES) == [("maria", "requeue", "jobs", {}, None)]
        entry.count(7)

    assert sql("SELECT changed FROM jobqueue.audit") == [(7,)]
