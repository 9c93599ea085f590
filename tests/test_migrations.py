"""Migrations: safe to run at any time and several at once, and a live database that already has the tables is completed."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.support.isolation import LEVELS, ahead, default_isolation
from tests.support.waiting import eventually

from jobqueue import migrations
from jobqueue.kernel import Queue, Worker, WorkerOptions
from jobqueue.migrations import MigrationError, load, migrate, pending

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.kernel import Context, Job

pytestmark = pytest.mark.slow

Connection = psycopg.Connection[tuple[Any, ...]]


def catalogue(dsn: str) -> list[tuple[Any, ...]]:
    """Everything that a migration makes, by name and definition."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(b"""
            SELECT 'column', attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
            WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'jobqueue'::regnamespace))
              AND attnum > 0
            UNION ALL SELECT 'function', proname::text, md5(prosrc), proconfig::text FROM pg_proc WHERE pronamespace = 'jobqueue'::regnamespace
            UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
            ORDER BY 1, 2, 3, 4""").fetchall()


def test_an_empty_database_is_brought_up_and_then_left_alone(database: str) -> None:
    assert [migration.version for migration in pending(database)] == [migration.version for migration in load()]
    assert migrate(database) == load()
    made = catalogue(database)
    assert pending(database) == []
    assert migrate(database) == []
    assert catalogue(database) == made


def test_looking_at_what_is_pending_changes_nothing(database: str) -> None:
    pending(database)
    with psycopg.connect(database) as connection:
        assert connection.execute(b"SELECT to_regnamespace('jobqueue')").fetchone() == (None,)


def test_no_two_files_have_one_number() -> None:
    versions = [migration.version for migration in load()]
    assert versions == sorted(set(versions))
    assert versions[0] == 1


def test_several_at_once_apply_everything_once(database: str) -> None:
    done: list[int] = []
    failures: list[BaseException] = []
    barrier = threading.Barrier(5)

    def run() -> None:
        try:
            barrier.wait()
            done.extend(migration.version for migration in migrate(database))
        except (MigrationError, psycopg.Error) as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(done) == [migration.version for migration in load()]


@pytest.mark.extended
@pytest.mark.parametrize("level", LEVELS)
def test_what_another_applied_while_it_was_waited_for_is_not_applied_again(database: str, level: str) -> None:
    last = migrate(database)[-1]
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM jobqueue.migrations WHERE version = %s", [last.version])
    lock = f"SELECT pg_advisory_xact_lock({migrations._LOCK})"
    applied = "INSERT INTO jobqueue.migrations (version, name, checksum) VALUES (%(version)s, %(name)s, %(checksum)s)"
    record = {"version": last.version, "name": last.name, "checksum": last.checksum}
    with default_isolation(database, level), ahead(database, lock, applied, **record):
        assert not migrations._apply(database, last)
    assert pending(database) == []


def test_a_file_that_was_changed_after_it_was_applied_stops_everything(database: str) -> None:
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute(b"UPDATE jobqueue.migrations SET checksum = 'another' WHERE version = 2")
    for command in (pending, migrate):
        with pytest.raises(MigrationError, match="migration 0002_publishing was applied with other contents"):
            command(database)


def test_a_database_of_a_newer_version_is_refused(database: str) -> None:
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute(b"INSERT INTO jobqueue.migrations (version, name, checksum) VALUES (9000, 'future', 'x')")
    with pytest.raises(MigrationError, match=r"9000_future.*upgrade jobqueue"):
        migrate(database)


def test_a_file_that_fails_leaves_nothing_of_itself_and_says_why(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(b"CREATE TABLE publish_jobs (id text PRIMARY KEY)")
    with pytest.raises(MigrationError, match=r"0002_publishing failed and was undone: .*publish_jobs\.id is text"):
        migrate(database)
    assert pending(database)[0].version == 2
    with psycopg.connect(database) as connection:
        assert connection.execute(b"SELECT to_regclass('auction_files')").fetchone() == (None,)
        connection.execute(b"DROP TABLE publish_jobs")
    migrate(database)
    assert pending(database) == []


def test_a_table_that_somebody_holds_is_waited_for_in_short_turns(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_MS", 50)
    with psycopg.connect(database, autocommit=True) as setup:
        setup.execute(b"CREATE TABLE auction_files (id uuid PRIMARY KEY)")
    waiting = threading.Thread(target=migrate, args=(database,))
    with psycopg.connect(database) as holder:
        holder.execute(b"SELECT count(*) FROM auction_files")
        waiting.start()
        with psycopg.connect(database, autocommit=True) as watcher:
            blocked = b"SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
            assert eventually(lambda: watcher.execute(blocked, [holder.info.backend_pid]).fetchall() == [(1,)])
            assert eventually(
                lambda: watcher.execute(blocked, [holder.info.backend_pid]).fetchall() == [(0,)], interval=0.001
            )
    waiting.join(10.0)
    assert pending(database) == []


def test_a_table_that_is_held_for_ever_is_given_up_with_advice(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_MS", 20)
    monkeypatch.setattr(migrations, "_LOCK_ATTEMPTS", 2)
    with psycopg.connect(database, autocommit=True) as setup:
        setup.execute(b"CREATE TABLE auction_files (id uuid PRIMARY KEY)")
    with psycopg.connect(database) as holder:
        holder.execute(b"SELECT count(*) FROM auction_files")
        with pytest.raises(MigrationError, match=r"could not lock a table.*pg_stat_activity"):
            migrate(database)


def test_a_role_with_a_statement_timeout_migrates_a_table_that_takes_longer(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as setup:
        setup.execute(b"""
            CREATE TABLE publish_jobs (id bigint PRIMARY KEY, file_id uuid, status text);
            INSERT INTO publish_jobs SELECT n, gen_random_uuid(), 'pending' FROM generate_series(1, 20) AS n;
            CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
            CREATE TRIGGER slow BEFORE UPDATE ON publish_jobs FOR EACH ROW EXECUTE FUNCTION slow()""")
    migrate(make_conninfo(database, options="-c statement_timeout=250"))
    assert pending(database) == []


# A database in which a predecessor of this worker has been at work: fewer columns, other constraints, rows in every state.
LEGACY = """
    CREATE TABLE items (id uuid PRIMARY KEY, title text, changes int NOT NULL DEFAULT 0);
    CREATE TABLE auction_files (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        item_id uuid REFERENCES items (id),
        source_key varchar(300) NOT NULL,
        publish_status varchar(20) DEFAULT 'new',
        CONSTRAINT auction_files_status CHECK (publish_status IN ('new', 'processing', 'published')),
        updated_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE publish_jobs (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        file_id uuid NOT NULL REFERENCES auction_files (id),
        status varchar(12) NOT NULL DEFAULT 'pending',
        retry_count int DEFAULT 0,
        max_retries int DEFAULT 3,
        error_message varchar(80),
        note text,
        created_at timestamp DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CHECK (status IN ('pending', 'processing', 'completed', 'failed')),
        CHECK (retry_count >= 0));
    CREATE INDEX publish_jobs_status ON publish_jobs (status);
    CREATE TABLE job_notes (job_id uuid NOT NULL REFERENCES publish_jobs (id), body text);

    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.updated_at := clock_timestamp();
        RETURN NEW;
    END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON publish_jobs FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TRIGGER touch BEFORE UPDATE ON auction_files FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE FUNCTION count_changes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE items SET changes = changes + 1 WHERE id = NEW.item_id;
        RETURN NULL;
    END $$;
    CREATE TRIGGER count_changes AFTER UPDATE ON auction_files FOR EACH ROW EXECUTE FUNCTION count_changes();

    INSERT INTO items SELECT gen_random_uuid(), 'item ' || n FROM generate_series(1, 12) AS n;
    INSERT INTO auction_files (item_id, source_key, publish_status)
        SELECT id, title, CASE WHEN title LIKE '%1' THEN NULL ELSE 'new' END FROM items;
    -- Twelve files: four pending (one of them twice), two in progress (one at its last attempt), three failed, three completed.
    INSERT INTO publish_jobs (file_id, status, retry_count, max_retries, note)
        SELECT f.id,
               CASE WHEN n <= 4 THEN 'pending' WHEN n <= 6 THEN 'processing' WHEN n <= 9 THEN 'failed' ELSE 'completed' END,
               CASE WHEN n = 6 THEN 3 WHEN n BETWEEN 7 AND 9 THEN 3 WHEN n = 1 THEN NULL ELSE 0 END,
               CASE WHEN n = 2 THEN NULL ELSE 3 END, 'job ' || n
        FROM (SELECT id, row_number() OVER (ORDER BY source_key) AS n FROM auction_files) AS f;
    INSERT INTO publish_jobs (file_id, note) SELECT file_id, 'twin' FROM publish_jobs WHERE note = 'job 3';
    INSERT INTO job_notes SELECT id, note FROM publish_jobs;

    ALTER TABLE publish_jobs ENABLE ROW LEVEL SECURITY;
    ALTER TABLE publish_jobs FORCE ROW LEVEL SECURITY;
    ALTER TABLE auction_files ENABLE ROW LEVEL SECURITY;
    ALTER TABLE auction_files FORCE ROW LEVEL SECURITY;
"""

BEFORE = b"SELECT id, file_id, note, status, created_at FROM publish_jobs ORDER BY note"


@pytest.fixture
def legacy(database: str) -> Iterator[tuple[str, Connection]]:
    """The legacy database as its owner sees it, a role that is no superuser; and a superuser's connection."""
    with psycopg.connect(database, autocommit=True) as root:
        role = f"owner_{root.info.dbname}"
        root.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p'".encode())
        root.execute(
            f"ALTER DATABASE {root.info.dbname} OWNER TO {role}; GRANT ALL ON SCHEMA public TO {role}".encode()
        )
        owner = make_conninfo(database, user=role, password="p")
        with psycopg.connect(owner, autocommit=True) as setup:
            setup.execute(LEGACY.encode())
        try:
            yield owner, root
        finally:
            root.execute(b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])
            with suppress(psycopg.Error):
                root.execute(
                    f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}".encode()
                )


def test_a_live_database_is_completed_in_place_and_loses_nothing(legacy: tuple[str, Connection]) -> None:
    owner, root = legacy
    before = root.execute(BEFORE).fetchall()
    files = root.execute(b"SELECT id, item_id, source_key FROM auction_files ORDER BY 1").fetchall()
    migrate(owner)
    assert pending(owner) == []
    assert migrate(owner) == []
    after = root.execute(BEFORE).fetchall()
    assert [row[:3] + row[4:] for row in after] == [row[:3] + row[4:] for row in before]
    changed = {row[2]: row[3] for row, earlier in zip(after, before, strict=True) if row != earlier}
    assert list(changed.values()) == ["cancelled"]
    assert set(changed) <= {"job 3", "twin"}
    assert root.execute(b"SELECT id, item_id, source_key FROM auction_files ORDER BY 1").fetchall() == files
    assert root.execute(b"SELECT count(*) FROM job_notes").fetchone() == (13,)
    with psycopg.connect(owner) as host:
        assert host.execute(b"SELECT count(*) FROM publish_jobs").fetchone() == (13,)


def test_a_worker_in_the_owners_role_runs_what_is_due_there(legacy: tuple[str, Connection]) -> None:
    owner, root = legacy
    migrate(owner)
    ran: list[str] = []

    def publish(job: Job, context: Context) -> None:
        ran.append(job.columns["note"])
        context.commit(
            lambda cursor: cursor.execute(
                b"UPDATE auction_files SET publish_status = 'published', thumb_url = 'x' WHERE id = %s",
                [job.columns["file_id"]],
            ).close()
        )

    worker = Worker(
        WorkerOptions(owner, concurrency=4, lease_seconds=0.6, poll_seconds=0.3),
        [Queue("publish_jobs", publish, columns=("note", "file_id"))],
    )
    worker.start()
    try:
        counts = b"SELECT status, count(*) FROM publish_jobs GROUP BY 1"
        expected = {"completed": 9, "failed": 3, "cancelled": 1}
        eventually(lambda: dict(root.execute(counts).fetchall()) == expected)
        # The three that had failed run again when they are allowed more attempts.
        root.execute(b"UPDATE publish_jobs SET max_retries = 10 WHERE status = 'failed'")
        eventually(lambda: dict(root.execute(counts).fetchall()) == {"completed": 12, "cancelled": 1})
    finally:
        worker.drain(5.0)
    assert sorted("job 3" if note == "twin" else note for note in ran) == [f"job {n}" for n in range(1, 10)]
    assert root.execute(b"SELECT count(*) FROM auction_files WHERE publish_status = 'published'").fetchone() == (9,)
    # The host's trigger on auction_files, which names its table without a schema, has seen every change of state.
    assert root.execute(
        b"SELECT min(i.changes) >= 2 FROM items i JOIN auction_files f ON f.item_id = i.id WHERE thumb_url = 'x'"
    ).fetchone() == (True,)


def test_what_a_dead_predecessor_left_in_progress_runs_again_even_at_its_last_attempt(
    legacy: tuple[str, Connection],
) -> None:
    owner, root = legacy
    migrate(owner)
    root.execute(b"DELETE FROM job_notes; DELETE FROM publish_jobs WHERE status <> 'processing'")
    ran: list[Any] = []
    worker = Worker(
        WorkerOptions(owner, lease_seconds=0.5, poll_seconds=0.2),
        [Queue("publish_jobs", lambda job, _: ran.append(job.attempt))],
    )
    worker.start()
    try:
        eventually(lambda: root.execute(b"SELECT status FROM publish_jobs").fetchall() == [("completed",)] * 2)
    finally:
        worker.drain(5.0)
    assert sorted(ran) == [1, 4]


def test_the_legacy_constraints_still_refuse_what_they_did_not_know(legacy: tuple[str, Connection]) -> None:
    owner, root = legacy
    migrate(owner)
    for statement in (b"UPDATE publish_jobs SET status = 'odd'", b"UPDATE auction_files SET publish_status = 'odd'"):
        with pytest.raises(psycopg.errors.CheckViolation):
            root.execute(statement)
    root.execute(b"UPDATE auction_files SET publish_status = 'deleted'")


def test_a_publish_status_that_is_an_enum_is_refused_with_the_statement_that_mends_it(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TYPE publishing AS ENUM ('pending', 'published')")
        connection.execute("CREATE TABLE auction_files (id uuid PRIMARY KEY, publish_status publishing NOT NULL)")
        with pytest.raises(MigrationError, match=r"publish_status is publishing, it must be text.*ALTER TABLE"):
            migrate(database)
        connection.execute("ALTER TABLE auction_files ALTER COLUMN publish_status TYPE text")
    assert migrate(database)


@contextmanager
def role_of(root: Connection, *grants: str) -> Iterator[str]:
    """A role that may log in, with these grants; {role} stands for it."""
    role = f"migrator_{root.info.dbname}"
    root.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p'".encode())
    try:
        for grant in grants:
            root.execute(grant.format(role=role, database=root.info.dbname).encode())
        yield role
    finally:
        root.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}".encode())


@pytest.mark.extended
@pytest.mark.parametrize("level", LEVELS)
def test_two_migrations_at_once_are_one_whatever_the_default_isolation(database: str, level: str) -> None:
    with default_isolation(database, level), ThreadPoolExecutor(2) as threads:
        done = [
            migration.version
            for applied in threads.map(migrate, [database, database])
            for migration in applied
        ]  # fmt: skip
    assert sorted(done) == [migration.version for migration in load()]


_TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")


@pytest.mark.extended
@pytest.mark.parametrize("setting", _TIMEOUTS)
def test_a_migration_that_waits_for_another_outlives_the_roles_time_limits(database: str, setting: str) -> None:
    hurried = make_conninfo(database, options=f"-c {setting}=200")
    waiting = b"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    with ThreadPoolExecutor(1) as threads, psycopg.connect(database) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [migrations._LOCK])
        migrating = threads.submit(migrate, hurried)
        eventually(lambda: other.execute(waiting).fetchone())
        # Longer than the limit, measured by the server.
        other.execute(b"SELECT pg_sleep(0.4)")
        other.rollback()
        assert migrating.result() == load()


def test_a_role_that_may_create_no_schema_uses_the_one_that_was_made_for_it(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as root:
        grants = ("GRANT ALL ON SCHEMA public TO {role}", "CREATE SCHEMA jobqueue AUTHORIZATION {role}")
        with role_of(root, *grants) as role:
            owner = make_conninfo(database, user=role, password="p")
            assert migrate(owner) == load()
            assert migrate(owner) == []


def test_who_worked_on_queues_without_owning_them_may_record_attempts(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = load()
    with monkeypatch.context() as before, psycopg.connect(database, autocommit=True) as root:
        before.setattr(migrations, "load", lambda: [migration for migration in every if migration.version < 13])
        migrate(database)
        with role_of(root, "GRANT SELECT, INSERT, UPDATE, DELETE ON jobqueue.workers TO {role}") as role:
            before.undo()
            migrate(database)
            query = b"SELECT bool_and(has_table_privilege(%s, 'jobqueue.attempts', p)) FROM unnest(%s::text[]) AS p"
            assert root.execute(query, [role, ["SELECT", "INSERT", "DELETE"]]).fetchone() == (True,)
            assert root.execute(query, ["pg_monitor", ["SELECT"]]).fetchone() == (False,)
            later = (
                b"SELECT array_agg(t || ' ' || p ORDER BY t, p) FROM unnest(ARRAY['pauses', 'limits', 'audit', 'rights']) AS t,"
                b" unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p"
                b" WHERE NOT has_table_privilege(%s, 'jobqueue.' || t, p)"
            )
            lacks = ["rights DELETE", "rights INSERT", "rights UPDATE"]
            assert root.execute(later, [role]).fetchone() == (lacks,)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("grants", "mend"),
    [
        (
            ("GRANT ALL ON SCHEMA public TO {role}",),
            "GRANT CREATE ON DATABASE {database} TO {role}; or CREATE SCHEMA jobqueue AUTHORIZATION {role};",
        ),
        (("CREATE SCHEMA jobqueue", "GRANT ALL ON SCHEMA public TO {role}"), "GRANT USAGE, CREATE ON SCHEMA jobqueue TO {role};"),
        (("GRANT CREATE ON DATABASE {database} TO {role}",), "GRANT USAGE, CREATE ON SCHEMA public TO {role};"),
    ],
)  # fmt: skip
def test_a_right_that_is_missing_is_named_with_the_statement_that_gives_it(
    database: str, grants: tuple[str, ...], mend: str
) -> None:
    with psycopg.connect(database, autocommit=True) as root, role_of(root, *grants) as role:
        statement = mend.format(role=f'"{role}"', database=f'"{root.info.dbname}"')
        with pytest.raises(MigrationError, match=re.escape(statement)):
            migrate(make_conninfo(database, user=role, password="p"))
        for one in statement.split("or ")[-1].split(";"):
            root.execute(one.encode())
        assert migrate(make_conninfo(database, user=role, password="p")) == load()


@pytest.mark.parametrize(
    "reader",
    [
        "CREATE VIEW seen AS SELECT status FROM publish_jobs",
        "ALTER TABLE publish_jobs ENABLE ROW LEVEL SECURITY; CREATE POLICY seen ON publish_jobs USING (status <> 'x')",
    ],
    ids=["view", "policy"],
)
def test_a_column_that_cannot_be_widened_is_named_with_its_table_and_what_reads_it(database: str, reader: str) -> None:
    with psycopg.connect(database, autocommit=True) as setup:
        setup.execute(
            f"CREATE TABLE publish_jobs (id uuid PRIMARY KEY, status varchar(8) DEFAULT 'pending'); {reader}".encode()
        )
    with pytest.raises(MigrationError) as caught:
        migrate(database)
    told = str(caught.value)
    assert "ALTER TABLE public.publish_jobs ALTER COLUMN status TYPE text" in told
    assert "seen" in told


def test_a_column_that_no_insert_of_ours_fills_is_refused_before_anything_is_applied(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as host:
        host.execute(b"""CREATE TABLE webhook_deliveries (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), webhook_id uuid NOT NULL, status text NOT NULL, "Tenant" text NOT NULL)""")
        mend = 'ALTER TABLE webhook_deliveries ALTER COLUMN "Tenant" DROP NOT NULL;'
        with pytest.raises(MigrationError, match=re.escape(mend)):
            migrate(database)
        assert host.execute(b"SELECT to_regnamespace('jobqueue')").fetchone() == (None,)
        host.execute(mend.encode())
        migrate(database)
        host.execute(b"INSERT INTO app_webhooks (webhook_url) VALUES ('https://example.com')")
        host.execute(b"INSERT INTO platform_events (event_type) VALUES ('user.created')")
        assert host.execute(b"SELECT status FROM webhook_deliveries").fetchall() == [("pending",)]


def test_a_column_that_the_hosts_own_trigger_fills_is_left_to_it(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as host:
        host.execute(b"""
            CREATE TABLE webhook_deliveries (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant text NOT NULL);
            CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant := 'one'; RETURN NEW; END $$;
            CREATE TRIGGER fill BEFORE INSERT ON webhook_deliveries FOR EACH ROW EXECUTE FUNCTION fill()""")
    assert migrate(database) == load()


# What a host may have made too narrow, and what we write there.
_NARROW = {
    "auction_files": {"publish_status": "varchar(7)", "thumb_url": "varchar(9)", "display_url": "char(9)", "cdn_key_prefix": "varchar(9)",
                      "bytes": "int", "width": "smallint", "height": "smallint"},
    "publish_jobs": {"key_prefix": "varchar(9)", "error_message": "varchar(9)", "locked_by": "varchar(9)", "status": "varchar(7)"},
    "project_media": {"measured_bytes": "int", "measured_crc32": "int"},
    "download_artifacts": {"storage_key": "varchar(9)", "cdn_url": "varchar(9)", "filename": "varchar(9)", "size_bytes": "int",
                           "file_count": "smallint", "phase": "varchar(3)", "files_done": "smallint", "files_total": "smallint",
                           "bytes_done": "int", "bytes_total": "int", "upload_key": "varchar(9)", "upload_id": "varchar(9)"},
    "webhook_deliveries": {"event_type": "varchar(9)", "response_body": "varchar(9)", "status_code": "smallint", "response_time_ms": "smallint"},
    "app_webhooks": {"disabled_reason": "varchar(9)", "total_deliveries": "int", "total_failures": "int"},
    "notification_state": {"status": "varchar(6)"},
}  # fmt: skip


def test_columns_that_are_narrower_than_what_is_written_are_widened(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as host:
        for table, columns in _NARROW.items():
            given = ", ".join(f"{name} {type_}" for name, type_ in columns.items())
            host.execute(f"CREATE TABLE {table} (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), {given})".encode())
        host.execute(b"ALTER TABLE notification_state DROP COLUMN id; ALTER TABLE notification_state ADD user_id text")
        migrate(database)
        still = host.execute(b"""
            SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod) FROM pg_attribute
            WHERE attnum > 0 AND NOT attisdropped
              AND format_type(atttypid, atttypmod) ~ '^(character|smallint)'
              AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r')""").fetchall()
        assert not still
        for table, column in (
            ("download_artifacts", "size_bytes"),
            ("project_media", "measured_crc32"),
            ("app_webhooks", "total_failures"),
        ):
            found = host.execute(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
                [table, column],
            ).fetchone()
            assert found == ("bigint",)


@pytest.mark.parametrize("key", ["bigint", "uuid"])
def test_deliveries_whose_id_has_no_default_get_one(database: str, key: str) -> None:
    with psycopg.connect(database, autocommit=True) as host:
        host.execute(f"CREATE TABLE webhook_deliveries (id {key} PRIMARY KEY)".encode())
        if key == "bigint":
            host.execute(b"INSERT INTO webhook_deliveries VALUES (7)")
        migrate(database)
        host.execute(b"DELETE FROM webhook_deliveries")
        host.execute(b"INSERT INTO app_webhooks (webhook_url) VALUES ('https://example.com')")
        host.execute(b"INSERT INTO platform_events (event_type) VALUES ('user.created')")
        [(id_,)] = host.execute(b"SELECT id FROM webhook_deliveries").fetchall()
        assert id_ == 8 or key == "uuid"
