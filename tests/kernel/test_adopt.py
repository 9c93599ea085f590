"""jobqueue.adopt(): any table becomes a queue, and hosts need nothing but INSERT."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors, sql

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig

OWN_WORDS = {
    "pending": "PENDING", "processing": "GENERATING", "completed": "READY", "failed": "FAILED", "cancelled": "CANCELLED",
}  # fmt: skip
INDEXES = {"claim", "delayed", "suspect", "lease", "failed"}


def indexes(rig: Rig, table: str) -> set[str]:
    """The purposes of our indexes on a table."""
    return {
        row[0]
        for row in rig.rows(
            "SELECT substring(obj_description(indexrelid) FROM '^jobqueue: ([a-z]+),') FROM pg_index WHERE indrelid = %s::regclass",
            table,
        )
        if row[0]
    }


@pytest.mark.parametrize(
    ("id_type", "default"),
    [
        ("bigint", "PRIMARY KEY GENERATED ALWAYS AS IDENTITY"),
        ("uuid", "PRIMARY KEY DEFAULT gen_random_uuid()"),
        ("serial", "UNIQUE NOT NULL"),
    ],
)
def test_a_table_with_any_of_these_ids_works(rig: Rig, id_type: str, default: str) -> None:
    rig.sql.execute(f"CREATE TABLE work (id {id_type} {default}, what text)".encode())
    assert rig.value("SELECT jobqueue.adopt('work')") == "work"
    rig.insert(3, "work", what="sweep")
    done: list[str] = []
    rig.run_once(lambda job, _: done.append(job.columns["what"]), "work", columns=("what",))
    assert done == ["sweep"] * 3
    assert rig.states("work") == {"completed": 3}
    assert indexes(rig, "work") == INDEXES


def test_a_table_without_an_id_gets_one(rig: Rig) -> None:
    rig.sql.execute(b"CREATE TABLE bare (what text); INSERT INTO bare VALUES ('a'), ('b')")
    rig.sql.execute(b"SELECT jobqueue.adopt('bare')")
    rig.run_once(lambda *_: None, "bare")
    assert rig.states("bare") == {"completed": 2}


def test_a_table_whose_key_is_another_keeps_it(rig: Rig) -> None:
    rig.sql.execute(
        b"CREATE TABLE keyed (code text PRIMARY KEY); INSERT INTO keyed VALUES ('a'); SELECT jobqueue.adopt('keyed')"
    )
    rig.run_once(lambda *_: None, "keyed")
    assert rig.rows("SELECT code, status FROM keyed") == [("a", "completed")]


def test_a_tables_own_words(rig: Rig) -> None:
    rig.table("artifacts", **OWN_WORDS)
    rig.insert(1, "artifacts", id=1)
    rig.insert(1, "artifacts", id=2, max_retries=1)

    def handler(job: Any, _: Any) -> None:
        if job.id == 2:
            raise ValueError("no")
        assert rig.row(1, "artifacts")["status"] == "GENERATING"

    rig.run_once(handler, "artifacts")
    assert rig.states("artifacts") == {"READY": 1, "FAILED": 1}


def test_the_five_words_must_differ(rig: Rig) -> None:
    with pytest.raises(errors.RaiseException, match="five different words"):
        rig.table("work", pending="new", failed="new")


def test_adopting_again_keeps_words_and_jobs_and_what_was_left_out(rig: Rig) -> None:
    rig.sql.execute(b"CREATE TABLE artifacts (id bigint PRIMARY KEY, project_id bigint)")
    adopt = b"SELECT jobqueue.adopt('artifacts', 'PENDING', 'GENERATING', 'READY', 'FAILED', 'CANCELLED', 'project_id')"
    rig.sql.execute(adopt)
    rig.insert(1, "artifacts", id=1, project_id=7)
    before = rig.row(1, "artifacts")
    made = rig.rows("SELECT indexrelid FROM pg_index WHERE indrelid = 'artifacts'::regclass ORDER BY 1")
    for again in (adopt, b"SELECT jobqueue.adopt('public.artifacts')"):
        rig.sql.execute(again)
        assert rig.row(1, "artifacts") == before
        assert rig.rows("SELECT * FROM jobqueue.queues WHERE name = 'artifacts'")[0][3:9] == (
            *OWN_WORDS.values(),
            "project_id",
        )
        assert rig.rows("SELECT indexrelid FROM pg_index WHERE indrelid = 'artifacts'::regclass ORDER BY 1") == made
    rig.sql.execute(b"INSERT INTO artifacts (id, project_id) VALUES (2, 7)")
    assert rig.states("artifacts") == {"PENDING": 1}


def test_adopting_again_with_other_words_replaces_the_indexes(rig: Rig) -> None:
    rig.table("work")
    rig.sql.execute(b"SELECT jobqueue.adopt('work', pending => 'new')")
    assert indexes(rig, "work") == INDEXES
    claim = rig.value("SELECT indexdef FROM pg_indexes WHERE indexname = 'work_claim'")
    assert "'new'" in claim


def test_several_adopting_at_once(rig: Rig) -> None:
    rig.sql.execute(b"CREATE TABLE work (id bigint PRIMARY KEY)")
    failures: list[BaseException] = []

    def adopt() -> None:
        try:
            with psycopg.connect(rig.dsn) as connection:
                connection.execute(b"SELECT jobqueue.adopt('work')")
        except psycopg.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=adopt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert indexes(rig, "work") == INDEXES


@pytest.mark.parametrize("name", ["My Table", 'semi;"quoted"', "größe", "select", "per%cent", "it's"])
def test_odd_names_in_another_schema(rig: Rig, name: str) -> None:
    table = sql.Identifier("Other Schema", name)
    rig.sql.execute(
        sql.SQL('CREATE SCHEMA "Other Schema"; CREATE TABLE {} (id bigint PRIMARY KEY, "Two Words" text)').format(table)
    )
    target = table.as_string(rig.sql)
    queue = rig.value("SELECT jobqueue.adopt(%s, coalesce_by => 'Two Words')", target)
    assert queue == name
    for id_ in (1, 2):
        rig.sql.execute(sql.SQL("INSERT INTO {} (id, \"Two Words\") VALUES ({}, 'x')").format(table, id_))
    seen: list[Any] = []
    rig.run_once(lambda job, _: seen.append((job.id, job.columns)), queue, columns=("Two Words",))
    assert seen == [(1, {"Two Words": "x"})]
    rig.sql.execute(sql.SQL("SELECT jobqueue.adopt({})").format(target))


def test_two_tables_of_one_name_are_two_queues(rig: Rig) -> None:
    rig.sql.execute(b"CREATE SCHEMA other; CREATE TABLE other.jobs (id bigint PRIMARY KEY)")
    assert rig.value("SELECT jobqueue.adopt('other.jobs')") == "other.jobs"
    rig.sql.execute(b"INSERT INTO other.jobs VALUES (1)")
    [mine] = rig.insert()
    rig.run_once(lambda *_: None, "other.jobs")
    assert rig.value("SELECT status FROM other.jobs") == "completed"
    assert rig.row(mine)["status"] == "pending"


def test_long_names_that_begin_alike_do_not_share_anything(rig: Rig) -> None:
    names = ["t" * 61 + suffix for suffix in "ab"]
    queues = [rig.table(names[0]), rig.table(names[1], pending="new")]
    for name in names:
        rig.insert(1, name, id=1)
        assert indexes(rig, name) == INDEXES
    assert [rig.value(f"SELECT status FROM {name}") for name in names] == ["pending", "new"]
    for name, queue in zip(names, queues, strict=True):
        rig.run_once(lambda *_: None, queue)
        assert rig.states(name) == {"completed": 1}


def test_a_host_may_have_taken_the_names_of_our_indexes(rig: Rig) -> None:
    rig.sql.execute(b"CREATE TABLE work_claim (); CREATE TABLE work_failed (); CREATE TABLE work_lease ()")
    rig.table("work")
    assert indexes(rig, "work") == INDEXES


@pytest.mark.parametrize(
    ("column", "declared", "wanted"),
    [
        ("status", "status_kind NOT NULL DEFAULT 'pending'", "text"),
        ("run_after", "timestamp", "timestamptz"),
        ("retry_count", "text", "int"),
        ("lease_token", "text", "uuid"),
        ("error_message", "jsonb", "text"),
    ],
)
def test_a_column_of_another_type_is_an_error_that_says_how_to_change_it(
    rig: Rig, column: str, declared: str, wanted: str
) -> None:
    rig.sql.execute(b"CREATE TYPE status_kind AS ENUM ('pending', 'processing')")
    rig.sql.execute(f"CREATE TABLE work (id bigint PRIMARY KEY, {column} {declared})".encode())
    rig.sql.execute(b"INSERT INTO work (id) VALUES (1)")
    with pytest.raises(errors.RaiseException, match=rf"public.work.{column} is .*, it must be {wanted}") as caught:
        rig.sql.execute(b"SELECT jobqueue.adopt('work')")
    hint = caught.value.diag.message_hint
    assert hint is not None
    rig.sql.execute(hint.encode())
    rig.sql.execute(b"SELECT jobqueue.adopt('work')")
    rig.run_once(lambda *_: None, "work")


def test_what_cannot_be_a_queue_is_refused_with_the_reason(rig: Rig) -> None:
    rig.sql.execute(
        b"CREATE VIEW seen AS SELECT 1 AS id; CREATE TABLE named (id text PRIMARY KEY); CREATE TABLE loose (id bigint)"
    )
    for target, reason in {
        "nowhere": "there is no table nowhere",
        "seen": "seen is not a table",
        "named": "it must be uuid or bigint",
        "loose": "is not unique",
    }.items():
        with pytest.raises(errors.RaiseException, match=reason):
            rig.sql.execute(b"SELECT jobqueue.adopt(%s)", [target])
    assert not rig.rows("SELECT FROM jobqueue.queues WHERE name IN ('nowhere', 'seen', 'named', 'loose')")


def test_narrow_text_columns_get_room_for_what_the_worker_writes(rig: Rig) -> None:
    rig.sql.execute(b"""
        CREATE TABLE work (id bigint PRIMARY KEY, status varchar(9) NOT NULL DEFAULT 'pending',
                           error_message varchar(20), locked_by varchar(10), note varchar(3));
        INSERT INTO work (id) VALUES (1);
        SELECT jobqueue.adopt('work')""")

    def fail(*_: Any) -> None:
        raise ValueError("x" * 5_000)

    rig.sql.execute(b"UPDATE work SET max_retries = 1")
    rig.run_once(fail, "work")
    assert rig.row(1, "work")["status"] == "failed"
    assert len(rig.row(1, "work")["error_message"]) == 2_000
    note = "SELECT character_maximum_length FROM information_schema.columns WHERE table_name = 'work' AND column_name = 'note'"
    assert rig.value(note) == 3


def test_explicit_nulls_take_the_defaults(rig: Rig) -> None:
    rig.sql.execute(b"""
        INSERT INTO jobs (kind, status, priority, run_after, retry_count, max_retries, crash_count, lease_token, locked_by)
        VALUES ('x', NULL, NULL, NULL, NULL, NULL, NULL, gen_random_uuid(), 'host')""")
    [id_] = rig.rows("SELECT id FROM jobs")[0]
    row = rig.row(id_)
    assert (row["status"], row["priority"], row["retry_count"], row["max_retries"]) == ("pending", 5, 0, 5)
    assert (row["lease_token"], row["locked_by"]) == (None, None)
    rig.run_once(lambda *_: None)
    assert rig.states() == {"completed": 1}


def test_a_pending_job_whose_columns_are_set_to_null_is_not_lost(rig: Rig) -> None:
    rig.insert(1, run_after="=now() + interval '1 hour'")
    rig.sql.execute(b"UPDATE jobs SET run_after = NULL, priority = NULL")
    rig.run_once(lambda *_: None)
    assert rig.states() == {"completed": 1}


def test_a_role_that_may_only_insert_enqueues(rig: Rig) -> None:
    role = f"inserter_{rig.sql.info.dbname}"
    rig.sql.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT INSERT ON jobs TO {role}".encode())
    try:
        with psycopg.connect(rig.dsn, user=role, password="p", autocommit=True) as host:
            with pytest.raises(errors.InsufficientPrivilege):
                host.execute(b"SELECT * FROM jobqueue.queues")
            for _ in range(2):
                host.execute(b"INSERT INTO jobs (kind, unique_key, priority) VALUES ('x', 'k', 9)")
            host.execute(b"INSERT INTO jobs (kind, run_after) VALUES ('x', now() + interval '1 hour')")
            with pytest.raises(errors.InsufficientPrivilege):
                host.execute(b"UPDATE jobs SET priority = 1")
        rig.run_once(lambda *_: None)
        assert rig.states() == {"completed": 1, "pending": 1}
    finally:
        rig.sql.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_the_second_of_two_pending_twins_becomes_the_first(rig: Rig) -> None:
    rig.sql.execute(
        b"INSERT INTO jobs (kind, unique_key, priority, run_after) VALUES ('a', 'k', 3, now() + interval '1 hour')"
    )
    rig.sql.execute(b"INSERT INTO jobs (kind, unique_key, priority, run_after) VALUES ('b', 'k', 8, NULL)")
    rig.sql.execute(b"INSERT INTO jobs (kind, unique_key) VALUES ('c', 'k'), ('d', 'k'), ('e', NULL), ('f', NULL)")
    assert rig.rows("SELECT kind, priority, run_after <= now() FROM jobs ORDER BY kind") == [
        ("a", 8, True), ("e", 5, True), ("f", 5, True),
    ]  # fmt: skip
    done: list[str] = []
    rig.run_once(lambda job, _: done.append(job.columns["kind"]), columns=("kind",), concurrency=1)
    assert done == ["a", "e", "f"]


def test_a_twin_of_a_running_job_waits_for_itself(rig: Rig) -> None:
    [running] = rig.insert(1, unique_key="k")
    rig.claim()
    [waiting] = rig.insert(1, unique_key="k")
    assert (rig.row(running)["status"], rig.row(waiting)["status"]) == ("processing", "pending")


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_two_transactions_that_insert_twins_at_once(rig: Rig, ending: str) -> None:
    """Neither waits for the other. What both committed becomes one when it is claimed."""
    first, second = rig.connect(autocommit=False), rig.connect(autocommit=False)
    insert = b"INSERT INTO jobs (kind, unique_key) VALUES ('x', 'k')"
    first.execute(insert)
    second.execute(b"SET lock_timeout = 1000")
    second.execute(insert)
    second.commit()
    getattr(first, ending)()
    ran: list[int] = []
    rig.run_once(lambda job, _: ran.append(job.id))
    assert len(ran) == 1
    assert rig.states() == {"completed": 1, **({"cancelled": 1} if ending == "commit" else {})}


def test_a_job_that_took_a_twin_in_does_not_run_before_the_twins_transaction_commits(rig: Rig) -> None:
    """What the second transaction wrote for the job would not be seen by a handler that began before its commit."""
    [job] = rig.insert(1, unique_key="k")
    host = rig.connect(autocommit=False)
    host.execute(b"INSERT INTO jobs (kind, unique_key) VALUES ('x', 'k')")
    assert rig.claim() == []
    host.commit()
    assert [claimed.id for claimed in rig.claim()] == [job]


@pytest.mark.parametrize("how", ["retry", "release", "requeue"])
def test_a_job_that_comes_back_while_a_twin_is_pending_ends_as_coalesced(rig: Rig, how: str) -> None:
    [first] = rig.insert(1, unique_key="k")
    [job] = rig.claim()
    [twin] = rig.insert(1, unique_key="k")
    store = rig.store()
    if how == "retry":
        assert store.retry(rig.link, [job], [0.0], ["the origin was away"]) == {first: False}
    elif how == "release":
        assert store.release(rig.link, [job]) == {first}
    else:
        rig.sql.execute(b"UPDATE jobs SET status = 'pending' WHERE id = %s", [first])
    row = rig.row(first)
    assert row["status"] == "cancelled"
    assert f"coalesced into job {twin}" in row["error_message"]
    assert how != "retry" or "the origin was away" in row["error_message"]
    assert row["completed_at"] is not None
    assert (row["lease_token"] is None) or row["lease_expires_at"] is None
    assert [claimed.id for claimed in rig.claim()] == [twin]


def test_failed_twins_that_are_revived_together_become_one(rig: Rig) -> None:
    rig.insert(1, unique_key="k", status="failed", retry_count=5)
    rig.insert(1, unique_key="k", status="failed", retry_count=5)
    rig.sql.execute(b"UPDATE jobs SET max_retries = 10 WHERE status = 'failed'")
    assert rig.states() == {"pending": 1, "cancelled": 1}


def test_twins_that_were_there_before_become_one(rig: Rig) -> None:
    rig.sql.execute(b"""
        CREATE TABLE work (id bigint PRIMARY KEY, file bigint, status text, priority int);
        INSERT INTO work VALUES (1, 7, 'pending', 5), (2, 7, 'pending', 9), (3, 7, 'completed', 5), (4, 8, 'pending', 5);
        SELECT jobqueue.adopt('work', coalesce_by => 'file')""")
    assert rig.rows("SELECT id, status FROM work ORDER BY 1") == [
        (1, "cancelled"),
        (2, "pending"),
        (3, "completed"),
        (4, "pending"),
    ]


def test_rows_that_were_there_before_run_in_their_order(rig: Rig) -> None:
    rig.sql.execute(b"""
        CREATE TABLE work (id bigint PRIMARY KEY, status text, priority int, created_at timestamptz);
        INSERT INTO work SELECT n, 'pending', n % 3, now() - n * interval '1 s' FROM generate_series(1, 3000) AS n;
        SELECT jobqueue.adopt('work')""")
    by_position = rig.rows("SELECT id FROM work ORDER BY position")
    assert by_position == rig.rows("SELECT id FROM work ORDER BY priority DESC, created_at")


def test_a_check_constraint_admits_our_words_and_keeps_its_own(rig: Rig) -> None:
    rig.sql.execute(b"""
        CREATE TABLE work (id bigint PRIMARY KEY, status varchar(20) NOT NULL DEFAULT 'draft',
                           CONSTRAINT known CHECK (status IN ('draft', 'pending', 'done')));
        INSERT INTO work VALUES (1, 'pending'), (2, 'draft');
        ALTER TABLE work ADD CONSTRAINT strict CHECK (status <> 'draft') NOT VALID;
        SELECT jobqueue.adopt('work')""")
    rig.run_once(lambda *_: None, "work")
    assert rig.states("work") == {"completed": 1, "draft": 1}
    rig.sql.execute(b"UPDATE work SET status = 'done' WHERE id = 1")
    with pytest.raises(errors.CheckViolation):
        rig.sql.execute(b"UPDATE work SET status = 'nonsense' WHERE id = 1")
    with pytest.raises(errors.CheckViolation):
        rig.sql.execute(b"INSERT INTO work (id, status) VALUES (3, 'draft')")


def test_the_hosts_own_triggers_find_their_tables_when_ours_write(rig: Rig) -> None:
    rig.sql.execute(b"""
        CREATE TABLE audit (job bigint, priority int);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO audit VALUES (NEW.id, NEW.priority);
            RETURN NEW;
        END $$;
        CREATE TRIGGER note AFTER UPDATE OF priority ON jobs FOR EACH ROW EXECUTE FUNCTION note()""")
    [job] = rig.insert(1, unique_key="k")
    rig.insert(1, unique_key="k", priority=9)
    assert rig.rows("SELECT * FROM audit") == [(job, 9)]


def test_a_partitioned_table_is_refused_with_a_way_out(rig: Rig) -> None:
    rig.sql.execute(b"CREATE TABLE parted (id bigint PRIMARY KEY) PARTITION BY HASH (id)")
    with pytest.raises(errors.RaiseException, match=r"parted is partitioned, a queue must be one table") as caught:
        rig.sql.execute(b"SELECT jobqueue.adopt('parted')")
    assert "plain table" in str(caught.value.diag.message_hint)
