"""`jobqueue webhooks`: what operators do when a receiver was away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobqueue.webhooks import webhook_admin

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue


@pytest.fixture
def webhook(sql: Database) -> str:
    """A webhook that was disabled after failures."""
    return str(
        sql.value("""
            INSERT INTO app_webhooks (app_id, webhook_url, subscribed_events, is_active, consecutive_failures, disabled_reason)
            VALUES ('shop', 'https://hooks.example.com/in?token=hidden', '{order.*,user.*}', false, 100, 'it was away')
            RETURNING id""")
    )


def deliver(sql: Database, webhook: str, status: str, number: int = 1, age: str = "1 minute") -> None:
    sql(
        """INSERT INTO webhook_deliveries (webhook_id, payload, status, retry_count, error_message, completed_at, created_at)
           SELECT %s, '{}', %s, 5, 'away', now(), now() - %s::interval FROM generate_series(1, %s)""",
        webhook, status, age, number,
    )  # fmt: skip


def test_list_shows_state_and_reason_but_neither_secret_nor_query(
    jobqueue: Jobqueue, sql: Database, webhook: str
) -> None:
    sql("INSERT INTO app_webhooks (webhook_url) VALUES ('https://fine.example.com/')")
    ran = jobqueue("webhooks", "list")
    assert ran.code == 0
    assert ran.rows[0] == [
        webhook, "shop", "https://hooks.example.com/in", "order.*,user.*", "no", "100", "0", "0", "", "", "it was away",
    ]  # fmt: skip
    assert len(ran.rows) == 2
    [shown] = jobqueue("webhooks", "list", "--disabled", "--json").document["webhooks"]
    assert (shown["id"], shown["active"], shown["disabled_reason"]) == (webhook, False, "it was away")
    assert "whsec_" not in ran.out
    assert "hidden" not in ran.out


def test_enable_forgets_what_was_held_against_it(jobqueue: Jobqueue, sql: Database, webhook: str) -> None:
    assert "is enabled" in jobqueue("webhooks", "enable", webhook).out
    assert sql("SELECT is_active, consecutive_failures, disabled_reason FROM app_webhooks") == [(True, 0, None)]
    assert "was enabled already" in jobqueue("webhooks", "enable", webhook.upper()).out
    assert jobqueue("webhooks", "enable", webhook, "--json").document["enabled"] == []


def test_replay_sends_what_failed_again_under_its_own_id(
    jobqueue: Jobqueue, sql: Database, webhook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_admin, "_BATCH", 3)
    deliver(sql, webhook, "failed", 7)
    deliver(sql, webhook, "cancelled", 2)
    deliver(sql, webhook, "completed", 2)
    deliver(sql, webhook, "failed", 1, age="3 days")
    ids = sql("SELECT id FROM webhook_deliveries ORDER BY id")
    jobqueue("webhooks", "enable", webhook)
    dry = jobqueue("webhooks", "replay", webhook, "--since", "2d", "--dry-run", "--json")
    assert dry.document["deliveries"] == {webhook: 9}
    assert sql.value("SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'") == 0
    assert (
        jobqueue("webhooks", "replay", webhook, "--since", "2d", "--yes").out == f"{webhook} sends again 9 deliveries\n"
    )
    assert dict(sql("SELECT status, count(*) FROM webhook_deliveries GROUP BY 1")) == {
        "pending": 9,
        "completed": 2,
        "failed": 1,
    }
    assert sql("SELECT DISTINCT retry_count FROM webhook_deliveries WHERE status = 'pending'") == [(0,)]
    assert sql("SELECT id FROM webhook_deliveries ORDER BY id") == ids
    assert jobqueue("webhooks", "replay", webhook, "--status", "completed", "-y", "--json").document["deliveries"] == {
        webhook: 2
    }


def test_replay_to_a_disabled_webhook_says_what_to_do_first(jobqueue: Jobqueue, webhook: str) -> None:
    ran = jobqueue("webhooks", "replay", webhook, "--yes")
    assert ran.code == 1
    assert f"jobqueue webhooks enable {webhook}" in ran.err


def test_replay_asks_for_somebody_to_confirm(jobqueue: Jobqueue, webhook: str) -> None:
    ran = jobqueue("webhooks", "replay", webhook)
    assert (ran.code, "add --yes" in ran.err) == (2, True)
    ran = jobqueue("webhooks", "replay", webhook, "--status", "pending", "--yes")
    assert (ran.code, "one of failed, cancelled, completed" in ran.err) == (2, True)


@pytest.mark.parametrize("command", ["enable", "replay"])
def test_a_webhook_that_is_not_there(jobqueue: Jobqueue, command: str) -> None:
    ran = jobqueue("webhooks", command, "nobody", *(["--yes"] if command == "replay" else []))
    assert (ran.code, "there is no webhook nobody" in ran.err) == (1, True)
