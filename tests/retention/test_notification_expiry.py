"""Expiry: what is due becomes `expired`, in batches, beside whoever else is at it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from jobqueue.retention.notification_expiry import Expired, NotificationExpiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.host import Host

    from jobqueue.demo.embedded_postgres import Postgres


@pytest.fixture
def host(shared_host: Host) -> Iterator[Host]:
    yield shared_host
    shared_host.execute("TRUNCATE platform_notifications CASCADE")


def always() -> bool:
    return True


def times(number: int) -> Callable[[], bool]:
    """Says yes this often."""
    left = iter(range(number))
    return lambda: next(left, None) is not None


def notify(
    host: Host, count: int = 1, expires: str = "-1 hour", user: str | None = "u", status: str | None = "unread"
) -> None:
    """Insert notifications of users of their own, and a state of each unless it is None."""
    host.execute(
        """
        WITH made AS (
            INSERT INTO platform_notifications (user_id, title, expires_at)
            SELECT %(user)s || n, 'Hello', now() + %(expires)s::interval FROM generate_series(1, %(count)s) AS n
            RETURNING id, user_id)
        INSERT INTO notification_state (notification_id, user_id, status)
        SELECT id, user_id, %(status)s FROM made WHERE %(status)s::text IS NOT NULL
        """,
        count=count, expires=expires, user=user, status=status,
    )  # fmt: skip


def statuses(host: Host) -> dict[str, int]:
    return {r["status"]: r["n"] for r in host.rows("SELECT status, count(*) AS n FROM notification_state GROUP BY 1")}


def waiting(host: Host) -> int:
    """Notifications that a run would look at."""
    query = "SELECT count(*) AS n FROM platform_notifications WHERE expires_at <= now() AND expiry_applied_at IS NULL"
    return int(host.rows(query)[0]["n"])


def test_what_is_due_expires_and_nothing_else(host: Host) -> None:
    notify(host, 3, "-1 hour")
    notify(host, 4, "1 hour")
    host.execute("INSERT INTO platform_notifications (user_id, title) VALUES ('u', 'for ever')")
    done = NotificationExpiry(host.dsn, 1000).run(always)
    assert (done.number, done.more, done.message) == (3, False, "Expired 3 notifications")
    assert statuses(host) == {"expired": 3, "unread": 4}
    assert NotificationExpiry(host.dsn, 1000).run(always).number == 0


@pytest.mark.parametrize(
    ("status", "becomes"),
    [
        ("unread", "expired"),
        ("read", "expired"),
        ("clicked", "expired"),
        ("dismissed", "dismissed"),
        ("expired", "expired"),
    ],
)
def test_a_dismissed_one_stays_dismissed_and_times_are_kept(host: Host, status: str, becomes: str) -> None:
    notify(host, status=status)
    host.execute("UPDATE notification_state SET read_at = '2024-05-17Z', clicked_at = '2024-05-18Z'")
    NotificationExpiry(host.dsn, 1000).run(always)
    row = host.rows("SELECT *, expired_at > now() - interval '1 minute' AS just_now FROM notification_state")[0]
    assert row["status"] == becomes
    assert (row["read_at"].day, row["clicked_at"].day) == (17, 18)
    assert row["just_now"] is (True if status != becomes else None)
    assert waiting(host) == 0


def test_a_user_who_never_saw_it_gets_a_state(host: Host) -> None:
    notify(host, 5, status=None)
    notify(host, 2, user=None, status=None)
    assert NotificationExpiry(host.dsn, 1000).run(always).number == 5
    assert statuses(host) == {"expired": 5}
    assert waiting(host) == 0


@pytest.mark.parametrize("batch", [1, 7, 50, 51])
def test_batches_go_on_until_none_is_left(host: Host, batch: int) -> None:
    notify(host, 50)
    asked: list[None] = []

    def proceed() -> bool:
        asked.append(None)
        return True

    assert NotificationExpiry(host.dsn, batch).run(proceed).number == 50
    assert len(asked) >= 50 / batch
    assert statuses(host) == {"expired": 50}


def test_a_run_ends_when_its_time_is_up_and_the_next_goes_on(host: Host) -> None:
    notify(host, 25)
    expiry = NotificationExpiry(host.dsn, 10)
    done = expiry.run(times(2))
    assert (done.number, done.more, done.message) == (20, True, "Expired 20 notifications; more are due")
    assert statuses(host) == {"expired": 20, "unread": 5}
    assert expiry.run(always) == Expired(5)


def test_what_was_done_is_known_when_a_run_is_broken_off(host: Host) -> None:
    notify(host, 25)
    proceed, done = times(2), Expired()

    def stop() -> bool:
        if not proceed():
            raise InterruptedError
        return True

    with pytest.raises(InterruptedError):
        NotificationExpiry(host.dsn, 10).run(stop, done)
    assert done.number == 20


def test_a_broadcast_with_many_states_is_expired_in_batches(host: Host) -> None:
    notify(host, user=None, status=None)
    host.execute(
        "INSERT INTO notification_state (notification_id, user_id) "
        "SELECT id, 'u' || n FROM platform_notifications, generate_series(1, 105) AS n"
    )
    expiry = NotificationExpiry(host.dsn, 10)
    assert expiry.run(times(3)) == Expired(30, more=True)
    assert waiting(host) == 1
    assert expiry.run(always) == Expired(75)
    assert waiting(host) == 0


@pytest.mark.parametrize("table", ["platform_notifications", "notification_state"])
def test_what_somebody_has_locked_is_left_and_not_waited_for(host: Host, table: str) -> None:
    notify(host, 12)
    expiry = NotificationExpiry(host.dsn, 5)
    with psycopg.connect(host.dsn) as other:
        other.execute(f"SELECT FROM {table} ORDER BY user_id LIMIT 3 FOR UPDATE".encode())
        assert expiry.run(always) == Expired(9)
    assert expiry.run(always) == Expired(3)


def test_runs_beside_each_other_share_the_work(host: Host) -> None:
    notify(host, 600)
    done = [Expired() for _ in range(4)]
    runs = [threading.Thread(target=NotificationExpiry(host.dsn, 10).run, args=(always, each)) for each in done]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sum(each.number for each in done) == 600
    assert waiting(host) == 0


def test_a_state_that_comes_late_expires_too(host: Host) -> None:
    notify(host, status=None, user=None)
    expiry = NotificationExpiry(host.dsn, 10)
    expiry.run(always)
    host.execute(
        "INSERT INTO notification_state (notification_id, user_id) SELECT id, 'late' FROM platform_notifications"
    )
    assert expiry.run(always) == Expired(1)
    assert statuses(host) == {"expired": 1}


def test_a_state_that_is_not_committed_yet_is_not_missed(host: Host) -> None:
    notify(host, status=None, user=None)
    expiry = NotificationExpiry(host.dsn, 10)
    with psycopg.connect(host.dsn) as other:
        other.execute(
            "INSERT INTO notification_state (notification_id, user_id) SELECT id, 'late' FROM platform_notifications"
        )
        assert expiry.run(always) == Expired(0)
    assert expiry.run(always) == Expired(1)


def test_a_role_that_may_write_states_alone_can_do_so_late(host: Host) -> None:
    notify(host, status=None, user=None)
    host.execute("CREATE ROLE app_user_states")
    try:
        host.execute("GRANT INSERT ON notification_state TO app_user_states")
        note = host.rows("SELECT id FROM platform_notifications")[0]["id"]
        with psycopg.connect(host.dsn) as app:
            app.execute("SET ROLE app_user_states")
            app.execute("INSERT INTO notification_state (notification_id, user_id) VALUES (%s, 'late')", [note])
        assert NotificationExpiry(host.dsn, 10).run(always) == Expired(1)
    finally:
        host.execute("DROP OWNED BY app_user_states")
        host.execute("DROP ROLE app_user_states")


def test_another_time_of_expiry_counts_anew(host: Host) -> None:
    notify(host, user=None, status=None)
    expiry = NotificationExpiry(host.dsn, 10)
    expiry.run(always)
    host.execute("UPDATE platform_notifications SET expires_at = now() + interval '1 day'")
    host.execute("INSERT INTO notification_state (notification_id, user_id) SELECT id, 'u' FROM platform_notifications")
    assert expiry.run(always) == Expired(0)
    host.execute("UPDATE platform_notifications SET expires_at = '-infinity'")
    assert expiry.run(always) == Expired(1)


def test_a_host_with_keys_of_its_own_types(postgres: Postgres) -> None:
    from jobqueue import migrations

    dsn = postgres.create_database("host_types")
    try:
        with psycopg.connect(dsn, autocommit=True) as host:
            host.execute(
                "CREATE TABLE platform_notifications (id bigserial PRIMARY KEY, user_id uuid, expires_at timestamptz)"
            )
            host.execute(
                "CREATE TABLE notification_state (notification_id bigint REFERENCES platform_notifications, user_id uuid, "
                "status varchar(9) NOT NULL DEFAULT 'unread' CHECK (status IN ('unread', 'read')), "
                "PRIMARY KEY (notification_id, user_id))"
            )
            host.execute(
                "INSERT INTO platform_notifications (user_id, expires_at) "
                "SELECT gen_random_uuid(), now() - interval '1 day' FROM generate_series(1, 7)"
            )
            host.execute("INSERT INTO notification_state SELECT id, user_id FROM platform_notifications LIMIT 4")
            migrations.migrate(dsn)
            assert NotificationExpiry(dsn, 3).run(always) == Expired(7)
            assert host.execute("SELECT count(*) FROM notification_state WHERE status = 'expired'").fetchone() == (7,)
    finally:
        postgres.drop_database("host_types")
